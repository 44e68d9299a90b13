"""What the config groups offer: where they are, options chosen by name in a setting, methods combined by name; and
what a composed config holds, as plain values.

Of all files ``run.py``, ``multirun.py`` and this one know Hydra.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import importlib.machinery
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from kd.search import directions
from kd.settings import (
    TWIN,
    at,
    blame,
    check_keys,
    check_values,
    is_number,
    leaves,
    missing,
    near,
    references,
    shown,
    typable,
    typed_as,
)

if TYPE_CHECKING:
    from kd.objective import Objective

ASSISTANT = 1_000  # what the seeds of a chain of assistants are apart
HARD = "hard"  # the term of the labels, in every method's yaml
NOT_OF_A_MEMBER = ("ensemble", "combine", "source", "allow_weak")  # settings of a teacher that are the run's
TRAINED = ("seed", "checkpoint", "pretrained")  # an assistant is trained in the run, from the seed of its place


def conf_dir() -> str:
    """Where the configs are: beside the package in a checkout, inside it in a wheel, or where KD_CONF_DIR says."""
    package = Path(__file__).resolve().parent
    for folder in (os.environ.get("KD_CONF_DIR"), package / "conf", package.parent / "conf"):
        if folder and (Path(folder) / "config.yaml").is_file():
            return str(Path(folder).resolve())
    raise SystemExit("kd: the configs are not where they were installed; set KD_CONF_DIR to the folder of config.yaml")


def names(group: str) -> list[str]:
    """Every option of a group, those of ``--config-dir`` too."""
    with composing():
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))


def composing() -> AbstractContextManager[Any]:
    """Hydra as the command has it, else, in a script, with our configs."""
    ready = GlobalHydra.instance().is_initialized()
    return nullcontext() if ready else initialize_config_dir(conf_dir(), version_base="1.3")


def network_of(entry: Any, groups: tuple[str, ...], setting: str) -> dict[str, Any]:
    """Compose the network that a list names: ``teacher.ensemble`` and ``kd.assistants`` say which options and how.

    Args:
        entry: the name of an option, ``resnet34``, or its name under its group with settings,
            ``{student: tiny_cnn, width: 3}``. groups: where a bare name is looked for, in this order.
        setting: where the entry stands, for messages.

    Returns:
        ``{"name", "group", "network", "attention"}`` and, of a teacher, "seed", "checkpoint", "mean" and "std": plain
        values.

    Raises:
        ValueError: a name or a setting that there is not.
    """
    settings = dict(entry) if isinstance(entry, Mapping) else {}
    group = next((group for group in groups if group in settings), None)
    name = settings.pop(group) if group else entry
    group = group or next((group for group in groups if name in names(group)), None)
    if not isinstance(name, str) or group is None or name not in names(group):
        known = [option for each in groups for option in names(each)]
        near = difflib.get_close_matches(str(name), known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else f": there are {', '.join(dict.fromkeys(known))}"
        raise ValueError(f"{setting} names {name!r}, which is no option of {' or '.join(groups)}{hint}")
    with composing():
        cfg = compose("config", [f"{group}={name}"])
    own = [key for key in cfg[group] if key not in NOT_OF_A_MEMBER and (groups[0] == "teacher" or key not in TRAINED)]
    unknown = sorted(set(settings) - set(own))
    if unknown:
        raise ValueError(f"{setting}: {group}={name} takes no {', '.join(unknown)} here; it takes {', '.join(own)}")
    for key, value in settings.items():
        OmegaConf.update(cfg, f"{group}.{key}", value)
    try:
        found = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        missing = error.full_key.rpartition(".")[2]
        if missing in TRAINED and missing not in own:
            text = f"{setting}: {name} comes trained, and what stands here is trained in the run"
            raise ValueError(text) from None
        text = f"{setting}: {group}={name} wants its {missing} said: {{{group}: {name}, {missing}: ...}}"
        raise ValueError(text) from None
    if group == "student":
        return {"name": name, "group": group, "network": found, "attention": None}
    attention = OmegaConf.to_container(cfg.attention, resolve=True)
    kept = {key: found[key] for key in ("network", "seed", "checkpoint", "mean", "std")}
    return {"name": name, "group": group, "attention": attention, **kept}


def members_of(settings: Mapping[str, Any], choice: str) -> list[dict[str, Any]]:
    """The teachers that ``teacher.ensemble`` lists, as ``network_of`` says; none where it is empty.

    Args:
        settings: the resolved config. choice: the option of the group `teacher`.

    Raises:
        ValueError: an entry that is neither a seed of the chosen teacher nor another option.
    """
    return [_member(entry, settings, choice) for entry in _listed(settings["teacher"]["ensemble"], "teacher.ensemble")]


def _member(entry: Any, settings: Mapping[str, Any], choice: str) -> dict[str, Any]:
    chosen = settings["teacher"]
    if isinstance(entry, int) and not isinstance(entry, bool):
        if entry < 0:
            raise ValueError(f"teacher.ensemble: seeds are 0 or more, got {entry}")
        return {**chosen, "attention": settings["attention"], "seed": entry, "name": choice}
    for name in ("checkpoint", "pretrained", "mean", "std"):
        if chosen.get(name):
            raise ValueError(f"teacher.{name} is not a named member's: say [{{teacher: {entry}, {name}: ...}}]")
    spec = network_of(entry, ("teacher",), "teacher.ensemble")
    return {**spec, "seed": entry.get("seed", chosen["seed"]) if isinstance(entry, Mapping) else chosen["seed"]}


def assistants_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The networks that ``kd.assistants`` lists; "student" is another one like the run's. Each has its own seed."""
    found = []
    for number, entry in enumerate(_listed(settings["kd"].get("assistants", []), "kd.assistants"), start=1):
        alike = {"name": entry, "network": settings["student"], "attention": None}
        spec = alike if entry == "student" else network_of(entry, ("student", "teacher"), "kd.assistants")
        found.append({**spec, "seed": settings["seed"] + ASSISTANT * number})
    return found


def name_of(members: Sequence[Mapping[str, Any]]) -> str:
    """``vea_resnet18_x3``, ``resnet18+resnet34``."""
    each = Counter(spec["name"] for spec in members)
    return "+".join(f"{name}_x{count}" if count > 1 else name for name, count in each.items())


def _listed(value: Any, setting: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{setting} must be a list, e.g. {setting}=[resnet18], got {value}")
    return value


def settled(cfg: DictConfig, choices: Mapping[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """Return config and choices with ``kd=combine`` written out: terms, weights and schedules of the methods listed.

    The labels count as little as the method that trusts them least lets them, or as much as ``kd.hard`` says. The order
    of the list means nothing.

    Raises:
        ValueError: a method that there is not, one listed twice, or methods that contradict each other.
    """
    if not isinstance(cfg.kd.terms, ListConfig):
        return cfg, dict(choices)
    listed = sorted(map(str, cfg.kd.terms))
    for name in listed:
        if not isinstance(cfg.kd.get(name), DictConfig):
            known = [key for key, value in cfg.kd.items() if isinstance(value, DictConfig)]
            near = difflib.get_close_matches(name, known, n=3) or known
            raise ValueError(
                f"kd.terms lists {name!r}, which is no method that can be combined; did you mean {', '.join(near)}? "
                "(One that sets more than its terms, as function_matching does, cannot.)"
            )
    if len(set(listed)) < len(listed) or not listed:
        raise ValueError(f"kd.terms={listed}: list at least one method, and each once")
    methods = {name: OmegaConf.to_container(cfg.kd[name], resolve=True) for name in listed}
    written = _combined(methods, cfg.kd.hard)
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.kd = written
    return cfg, {**choices, "kd": "+".join(listed)}


def _combined(methods: Mapping[str, dict[str, Any]], hard: float | None) -> dict[str, Any]:
    whole: dict[str, Any] = {"terms": {}, "weights": {}, "schedule": {}}
    for name, method in methods.items():
        own = [term for term in method["terms"] if term != HARD]
        for term in own:
            # a method's only term goes by the method's name; two methods may have terms of one name
            place = term if len(methods) == 1 else name if len(own) == 1 else f"{name}_{term}"
            whole["terms"][place], whole["weights"][place] = method["terms"][term], method["weights"][term]
            if term in method.get("schedule", {}):
                whole["schedule"][place] = method["schedule"][term]
        whole[name] = {key: value for key, value in method.items() if key not in ("terms", "weights", "schedule")}
    labels = _agreed("learn from the labels", {n: m["terms"][HARD] for n, m in methods.items() if HARD in m["terms"]})
    when = _agreed("count the labels", {n: m.get("schedule", {}).get(HARD) for n, m in methods.items()})
    between = _agreed("put networks between", {n: m["assistants"] for n, m in methods.items() if "assistants" in m})
    if labels:
        lowest = min(method["weights"].get(HARD, 0.0) for method in methods.values())
        whole["terms"][HARD], whole["weights"][HARD] = labels, lowest if hard is None else hard
    elif hard:
        raise ValueError(
            f"kd.hard={hard}: {', '.join(methods)} has no term of the labels to weigh; list supervised too"
        )
    if when:
        whole["schedule"][HARD] = when
    if between:
        whole["assistants"] = between
    return whole


def _agreed(what: str, said: Mapping[str, Any]) -> Any:
    """What all methods say of one thing."""
    different = {repr(value): name for name, value in said.items()}
    if len(different) > 1:
        raise ValueError(f"kd.terms: {' and '.join(different.values())} {what} differently, so they do not combine")
    return next(iter(said.values()), None)


def offer_combinations() -> None:
    """Make ``kd=combine`` an option: every method's settings under its name, of which those listed are used."""
    methods = {}
    for path in sorted((Path(conf_dir()) / "kd").glob("*.yaml")):
        page = OmegaConf.load(path)
        if isinstance(page.get("terms"), DictConfig) and "defaults" not in page:
            methods[path.stem] = page
    node = {"terms": ["hinton", "at"], HARD: None, **methods}
    ConfigStore.instance().store(group="kd", name="combine", node=OmegaConf.create(node), provider="kd")


def offer_students_as_teachers() -> None:
    """Make every student an option of `teacher` too, its settings among the teacher's: ``teacher=wrn_40_2``.

    A student that stands on timm's page becomes a teacher that stands on timm's. A file in conf/teacher comes first.
    """
    students, teachers = Path(conf_dir()) / "student", Path(conf_dir()) / "teacher"
    for path in sorted(students.glob("*.yaml")):
        if (teachers / path.name).is_file():
            continue
        of_timm, page = student_page(path)
        if of_timm:
            node = {"defaults": ["timm", "_self_"], **page}
        else:
            settings = {key: value for key, value in page.items() if key != "_target_"}
            network = {"_target_": page.get("_target_"), **{key: f"${{teacher.{key}}}" for key in settings}}
            node = {"defaults": ["/every_teacher@_here_", "_self_"], "checkpoint": None, **settings, "network": network}
        ConfigStore.instance().store(group="teacher", name=path.stem, node=OmegaConf.create(node), provider="kd")


def student_page(path: Path) -> tuple[bool, dict[str, Any]]:
    """Whether a student's page stands on timm's, and what it says, with the other pages of its folder below it."""
    page = OmegaConf.to_container(OmegaConf.load(path))
    of_timm, below = False, {}
    for name in page.pop("defaults", []):
        if name == "timm":
            of_timm = True
        elif name != "_self_" and (path.parent / f"{name}.yaml").is_file():
            also, more = student_page(path.parent / f"{name}.yaml")
            of_timm, below = of_timm or also, {**below, **more}
    return of_timm, {**below, **page}


def one_minus(share: float) -> float:
    """The resolver ``${one_minus:...}``: what one weight leaves to the other."""
    if not is_number(share) or not 0 <= share <= 1:
        raise ValueError(f"the teacher's share of the loss must lie in [0, 1], got {shown(share)}")
    return round(1 - share, 12)  # 1 - 0.9 is 0.09999999999999998


def again(generations: int) -> ListConfig:
    """The resolver ``${again:...}``: the generations before the last one, each a student like the last."""
    if type(generations) is not int or not 1 <= generations <= 100:
        raise ValueError(f"generations are 1 to 100, got {shown(generations)}")
    return ListConfig(["student"] * (generations - 1))


def goals(objective: str | list[str]) -> str | list[str]:
    """The resolver ``${directions:${objective}}``: maximize or minimize."""
    try:
        return directions(objective)
    except ValueError as error:
        raise SystemExit(f"kd: {error}") from None


def plugin(extra: str, path: str) -> str:
    """The resolver ``${plugin:extra,class}`` of conf/hydra: a class of a Hydra plugin, which an extra brings."""
    package = path.split(".")[1]
    found = importlib.machinery.PathFinder.find_spec("hydra_plugins")
    if found is None or not any((Path(place) / package).is_dir() for place in found.submodule_search_locations or ()):
        raise SystemExit(f"kd: the Hydra plugin {package} is not installed: pip install -e '.[{extra}]'")
    return path


def register() -> None:
    """Tell Hydra our resolvers and the options that are no files."""
    for name, resolver in {"one_minus": one_minus, "again": again, "directions": goals, "plugin": plugin}.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    offer_combinations()
    offer_students_as_teachers()


def build_network(spec: Mapping[str, Any], num_classes: int, image_size: int, tried: bool = True) -> Any:
    """Make the network of ``spec["network"]`` with the attention of ``spec["attention"]``, if it has one.

    Args:
        spec: plain values, as ``network_of`` returns them. An attention may stand as its page writes it.
        tried: run the network with and without attention, to refuse what does not go together.
    """
    from kd.attention.attach import attach  # imports torch

    network = instantiate(spec["network"], num_classes=num_classes, image_size=image_size)
    if spec.get("attention"):
        whole = OmegaConf.create({"attention": spec["attention"]})  # what the page takes from itself is found there
        attention = OmegaConf.to_container(whole, resolve=True)["attention"]
        attach(
            network, instantiate(attention["wrap"], _convert_="all"), attention["stages"], image_size if tried else None
        )
    return network


def objective_of(method: DictConfig) -> Objective:
    """Make what one option of the group `kd` describes."""
    from kd.objective import Objective

    return Objective(instantiate(method.terms, _convert_="all"), dict(method.weights), method.get("schedule"))


def twin_of(method: DictConfig) -> Objective:
    """The objective of the twin, which has no teacher.

    Raises:
        ValueError: a method that is more than labels.
    """
    labels = isinstance(method.get("terms"), DictConfig) and objective_of(method)
    if not labels or labels.needs or any(hasattr(term, "enter") for term in labels.terms.values()):
        raise ValueError(TWIN)
    return labels


def made(page: DictConfig, **given: Any) -> Any:
    """The object that a page describes, ``given`` what stands in none."""
    return instantiate(page, **given)


@contextmanager
def blaming(cfg: DictConfig, page: str | None = None) -> Iterator[None]:
    """Put the key before what a constructor says of its arguments.

    Args:
        page: of what is made inside, where it is one.

    Raises:
        ValueError: instead of whatever a constructor raised.
    """
    try:
        yield
    except Exception as error:  # Hydra 1.3 wraps it, and 1.4 does not
        cause = error.__cause__ or error if isinstance(error, InstantiationException) else error
        found = re.search(r"full_key: (\S+)", str(error))
        raw, key = OmegaConf.to_container(cfg), found[1] if found else page
        if isinstance(error, InstantiationException) and isinstance(cause, ImportError):
            said = f"{key}._target_={at(raw, f'{key}._target_')}: there is no such class or function"
            raise ValueError(said) from error
        said = str(cause) if isinstance(cause, ValueError | OSError) else _plain(cause)
        raise ValueError(blame(raw, key, said) if key else said) from error


def checked(config: DictConfig) -> tuple[DictConfig, dict[str, Any], dict[str, str]]:
    """Return what a job will get of a config with Hydra's part: itself, its plain values, the option of each group.

    Raises:
        ValueError: keys that nobody reads or that are missing, values that cannot be.
    """
    whole, before = copy.deepcopy(config), HydraConfig.instance().cfg
    with read_write(whole), open_dict(whole):  # as in a job, for who refers to it: ${hydra:job.num}
        whole.hydra.job.update({"id": "0", "num": 0})
        whole.hydra.runtime.output_dir = "."
    HydraConfig.instance().set_config(whole)
    try:
        cfg = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        raw, hydra = OmegaConf.to_container(cfg), OmegaConf.to_container(whole.hydra)
        typed = [key_of(line) for line in hydra["overrides"]["task"]]
        check_keys(raw, [key for key in typed if "." in key], hydra)
        settings = resolved(cfg)
    finally:
        HydraConfig.instance().cfg = before
    check_values(raw, settings)
    return cfg, settings, {group: name for group, name in whole.hydra.runtime.choices.items() if name}


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The plain values of a config.

    Raises:
        ValueError: with the key, for what is not said and for interpolations that lead nowhere.
    """
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except RecursionError as error:
        raise ValueError("settings refer to each other in a circle") from error
    except OmegaConfBaseException as error:
        raise ValueError(_unresolved(error, OmegaConf.to_container(cfg))) from error


def _unresolved(error: OmegaConfBaseException, raw: dict[str, Any]) -> str:
    key = (error.full_key or "").partition("[")[0]
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        key = typed_as(raw, key)
        return f"{key} must be said: {key}=…; python -m kd.zoo shows what there is"
    used = list(references(at(raw, key), key))
    for name in used if isinstance(error, InterpolationKeyError) else ():
        if missing(raw, name):
            return f"{name} is not there, and {key} refers to it{near(name, typable(raw))}"
    own = typed_as(raw, used[0]) if used and at(raw, used[0]) is not None else key
    said = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).partition("\n")[0])
    return f"{own}={at(raw, own)}: {said}"


def key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def told(error: BaseException, overrides: Sequence[str], name: str = "config", beside: Sequence[str] = ()) -> str:
    """What is wrong with a command line, in place of what Hydra says.

    Args:
        overrides: of the command line. name: of the main config. beside: overrides that are not the user's.
    """
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}={option}: there is no such option{near(option, error.options)} {_offered(error.options)}"
    if isinstance(error, OverrideParseException):
        noise = ("Error parsing", "LexerNoViable", "See ", "^")
        said = [line.strip() for line in text.splitlines() if not line.strip().startswith(noise)]
        return (
            f"cannot read {error.override!r}{f' ({said[0]})' if said else ''}: "
            "a setting is key=value, a list key=[a,b], and text with signs in it is quoted, 'key=\"a, b\"'"
        )
    if isinstance(error, ConfigCompositionException | ValueError):
        with suppress(Exception), composing():  # what cannot be composed even so is told in Hydra's words
            return _mistaken(overrides, name, beside, alone="--multirun" in text) or _plain(error)
    return _plain(error)


def _plain(error: BaseException) -> str:
    """The first lines of what an error says, behind its kind where that is not one that speaks to people."""
    lines = [line.strip()[:300] for line in str(error).splitlines() if line.strip()][:2]
    lines = [line for line in lines if not line.startswith(("Config search path", "Search path"))]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__).partition("\n")[0])
    known = isinstance(error, HydraException | OmegaConfBaseException | OSError | ValueError) and lines
    return " ".join(lines) if known else ": ".join([type(error).__name__, *lines])


def _mistaken(overrides: Sequence[str], name: str, beside: Sequence[str], alone: bool) -> str | None:
    """The override that Hydra could not compose, if it is one of those that people mistype."""
    loader = GlobalHydra.instance().config_loader()
    chosen, added, others = [], [], []
    for o in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key, group, sweeps = o.get_key_element().lstrip("+~"), o.key_or_group, o.is_sweep_override()
        options = group and loader.get_group_options(group, config_name=name, overrides=list(beside))
        if sweeps and alone:
            return f"{o.input_line} is several values: -m runs each, {key}=[...] is a list, '{key}=\"...\"' is text"
        if not options or isinstance(o.value(), dict):
            others.append(o)
        elif o.is_add() or o.is_force_add():
            added.append(o)
        elif sweeps:
            chosen.append(f"{key}={next(values_of(o))}")
        elif o.is_delete() or isinstance(o.value(), str | list):
            chosen.append(o.input_line)
        else:
            return f"{o.input_line} is no option of {group} {_offered(options)}"
    cfg = compose(name, [*beside, *chosen], return_hydra_config=True)
    raw, unknown = OmegaConf.to_container(cfg), []
    there = [o for o in added if o.get_key_element().lstrip("+") in cfg.hydra.runtime.choices]
    for o in [*there, *(o for o in others if o.is_add() and not missing(raw, o.key_or_group))]:
        return f"{o.key_or_group} is there already: {o.input_line.lstrip('+')} changes it, without +"
    known = [*typable(raw), *loader.list_groups("")]
    for o in others:
        inside = [f"{o.key_or_group}.{key}" for key, _ in leaves(o.value())] if isinstance(o.value(), dict) else []
        for key in inside or [o.key_or_group]:
            if not (o.is_add() or o.is_force_add()) and missing(raw, key):
                unknown.append(f"there is no setting {key or repr(key)}{near(key, known)}")
    return "\n".join(dict.fromkeys(unknown)) or None


def _offered(options: Sequence[str]) -> str:
    return f"(there are {', '.join(options)})"


def values_of(override: Override) -> Iterator[str]:
    """The values of a sweep, as they are typed; of an interval its ends; of what is no sweep the one value."""
    if not override.is_sweep_override():
        yield override.get_value_element_as_str()
    elif override.is_interval_sweep():
        yield from (str(end) for end in (override.value().start, override.value().end))
    else:
        yield from override.sweep_string_iterator()


@contextmanager
def plainly() -> Iterator[None]:
    """Around a command: what is wrong with the command line is told in a line, with exit code 2.

    Hydra would print it its own way and exit with 1, unless HYDRA_FULL_ERROR says that it is to be raised. So we say
    that, until the job begins (``begin``), where nobody else has.
    """
    global _silenced
    _silenced = not os.environ.get("HYDRA_FULL_ERROR")
    if _silenced:
        os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _say(end.code)
        raise SystemExit(2) from end
    except Exception as error:
        if not _silenced:
            raise
        from kd.progress import await_turn

        await_turn(error)
        _say(f"kd: {told(error, *_typed(sys.argv[1:]))}")
        raise SystemExit(2) from error
    finally:
        begin()


def _say(text: str) -> None:
    """Control characters that somebody typed are shown, and not sent to the terminal."""
    print(re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text), file=sys.stderr)


_silenced = False  # whether HYDRA_FULL_ERROR is ours


def begin() -> None:
    """From here on Hydra speaks for itself, and so do the processes that it starts."""
    global _silenced
    if _silenced:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    _silenced = False


def _typed(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """(overrides, name of the main config, overrides that stand for --config-dir) of a command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(arguments)
    beside = [f"hydra.searchpath=['file://{Path(known.config_dir).absolute()}']"] if known.config_dir else []
    return [o for o in rest if "=" in o or o.startswith("~")], known.config_name, beside
