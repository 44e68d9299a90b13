"""What the config groups offer: where they are, options chosen by name in a setting, methods combined by name.

Of all files ``run.py``, ``multirun.py`` and this one know Hydra.
"""

from __future__ import annotations

import copy
import difflib
import importlib.machinery
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue

from kd.search import directions

ASSISTANT = 1_000  # what the seeds of a chain of assistants are apart
HARD = "hard"  # the term of the labels, in every method's yaml
NOT_OF_A_MEMBER = ("ensemble", "combine", "source")  # settings of a teacher that are the run's
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
    if not 0 <= share <= 1:
        raise ValueError(f"kd.alpha is the teacher's share of the loss and must lie in [0, 1], got {share}")
    return round(1 - share, 12)  # 1 - 0.9 is 0.09999999999999998


def again(generations: int) -> ListConfig:
    """The resolver ``${again:...}``: the generations before the last one, each a student like the last."""
    if generations < 1:
        raise ValueError(f"kd.generations must be 1 or more, got {generations}")
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
