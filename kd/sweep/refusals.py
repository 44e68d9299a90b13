"""The jobs of a sweep that cannot work, found before the first one begins.

There are two kinds of mistakes. One that every method shares, or a value of another setting that suits none of them
(``kd.temperature=-1``), ends the command: it is to be corrected. A method that cannot work with its teacher and
student, or with a value, is refused there with its own sentence, and the other cells run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, read_write

from kd.config.checks import check_outputs
from kd.config.composed import checked
from kd.config.errors import explain_error, values_of
from kd.config.generated import COMBINE
from kd.config.keys import key_of
from kd.runtime.text import first_few

MAX_CHECKED_VALUES = 24  # values of one setting that are checked: each takes a tenth of a second
MAX_JOBS = 100_000  # jobs of a sweep
MAX_PAIRS = (
    400  # combinations of a method and what decides about it that are tried; the others try themselves when they run
)
METHOD = "kd"  # the group of the methods
# groups, and settings, that decide whether a method can work
PAIR = ("kd", "student", "teacher", "attention", "data")
SETTINGS = ("second_augment", "train.compile", "train.batch_size")
SETTINGS += tuple(f"train.student.{name}" for name in ("optimizer", "mixup", "cutmix"))
ELSEWHERE = ("SlurmLauncher", "RayLauncher")  # launchers whose jobs may find other data than this machine


class Refusal(NamedTuple):
    """Why the cells of a method cannot work."""

    method: str
    networks: Mapping[str, str]  # the other overrides of these cells; none: all cells of the method
    sentence: str

    @property
    def overrides(self) -> list[str]:
        return [f"{key}={value}" for key, value in {METHOD: self.method, **self.networks}.items()]


def without_helpers(swept: Sequence[Override], parser: OverridesParser) -> list[Override]:
    """Return the swept settings; ``kd=glob(*)`` without ``combine``, which is no method but lists some."""
    return [_without_combine(o, parser) for o in swept]


def _without_combine(swept: Override, parser: OverridesParser) -> Override:
    if swept.get_key_element() != METHOD or swept.value_type != ValueType.GLOB_CHOICE_SWEEP:
        return swept
    names = list(values_of(swept))
    if COMBINE not in names or len(names) == 1:
        return swept
    return parser.parse_overrides([choice_of(METHOD, (name for name in names if name != COMBINE))])[0]


def choice_of(key: str, values: Iterable[str]) -> str:
    """Return the override that sweeps these values."""
    return f"{key}=choice({','.join(values)})"


def launch_only(
    config: DictConfig, typed: Sequence[Override], swept: Sequence[Override], refused: Sequence[Refusal]
) -> None:
    """Take the refused methods, and helpers, out of what Hydra's sweeper will read.

    Args:
        typed: the swept settings of the command. swept: those of ``without_helpers``.
    """
    names = {r.method for r in refused if not r.networks}
    for before, after in zip(typed, swept, strict=True):
        is_glob = before.value_type == ValueType.GLOB_CHOICE_SWEEP  # which Optuna's sweeper does not know
        if after.get_key_element() != METHOD or not (names or is_glob):
            continue
        line = choice_of(METHOD, (name for name in values_of(after) if name not in names))
        task = OmegaConf.to_container(config.hydra.overrides.task)  # interpolations unresolved
        own = [line if key_of(each) == METHOD else each for each in task]
        with read_write(config), read_write(config.hydra):  # Hydra 1.4 makes both read-only before it calls this
            config.hydra.overrides.task = own if line in own else [*own, line]  # overrides hydra.sweeper.params


def show_refused(refused: Sequence[Refusal]) -> None:
    """Print what is left out and why."""
    from kd.runtime.console import print_line

    if refused:
        print_line("Refused, because they cannot work here; everything else runs:")
    for r in refused:
        print_line(f"  {' '.join(r.overrides)}: {r.sentence}")


def check_jobs_of(config: DictConfig, swept: Sequence[Override], fixed: Sequence[str]) -> list[Refusal]:
    """Check the jobs of a sweep: every value of each swept setting, with the others at their first value.

    Of one setting at most ``MAX_CHECKED_VALUES`` are checked. If methods are swept, each is tried with all networks.

    Returns:
        The refused methods; every cell that has the overrides of a refusal is refused.

    Raises:
        ValueError: a setting is wrong, no method can work, or a value suits no method.
    """
    from kd.pipeline.preflight import check_jobs

    values = _values(swept)
    first = {key: own[0] for key, own in values.items()}
    composed = partial(_composed, config, fixed)
    methods = values.get(METHOD, [])
    others = [{key: value} for key, own in values.items() if key != METHOD for value in sample_values(own)]
    if len(methods) < 2:
        check_jobs(composed({**first, **other}) for other in [{}, *others])
        return []
    trial = _Trial(composed, not config.hydra.launcher._target_.endswith(ELSEWHERE))
    refused, values_refused = trial.refuse(methods, first, {}), []
    names = {r.method for r in refused}
    keys = _deciding(values, len(methods))
    networks, is_whole = _networks(values, keys, len(methods))
    for other in others:
        wrong = trial.refuse_value(methods, names, first, other)
        values_refused += [
            r for r in wrong if not {*other} & {*keys}
        ]  # else the next lines try it too, with all others
    for each in networks[1:]:
        refused += trial.refuse(methods, first, each)
    refused = _joined(refused, networks)
    if not is_whole and "BasicSweeper" in config.hydra.sweeper._target_:
        # they may work with networks that were not tried; a search cannot leave out a method there alone
        refused = [r if r.method in trial.absent else r._replace(networks=networks[0]) for r in refused]
    return refused + values_refused


def sample_values(values: Sequence[str]) -> Sequence[str]:
    """Return the values after the first; at most ``MAX_CHECKED_VALUES``, evenly spaced, including the last."""
    return values[: 0 : -max(1, -(-(len(values) - 1) // MAX_CHECKED_VALUES))]


def _values(swept: Sequence[Override]) -> dict[str, list[str]]:
    """Return the values of each swept setting, as typed."""
    for o in swept:
        if o.get_key_element() in ("outputs", "sweep"):
            raise ValueError(f"{o.input_line}: a sweep has one folder; start one sweep for each")
    values = {o.get_key_element(): list(islice(values_of(o), MAX_JOBS + 1)) for o in swept}
    for o in swept:
        if not values[o.get_key_element()]:
            raise ValueError(f"{o.input_line} has no value")
    if math.prod(map(len, values.values())) > MAX_JOBS:
        raise ValueError(f"the sweep has more than {MAX_JOBS:,} cells")
    return values


def _composed(config: DictConfig, fixed: Sequence[str], cell: Mapping[str, str]) -> DictConfig:
    """Compose the config of a cell, including Hydra's part.

    Raises:
        ValueError: Hydra cannot, from its error.
    """
    name = config.hydra.job.config_name
    overrides = [*fixed, *(f"{key}={value}" for key, value in cell.items())]
    try:
        of_hydra = [o for o in config.hydra.overrides.hydra if key_of(o) != "hydra.mode"]
        return compose(name, [*of_hydra, *overrides], return_hydra_config=True)
    except Exception as error:
        raise ValueError(explain_error(error, overrides, name)) from error


def _deciding(values: Mapping[str, Sequence[str]], methods: int) -> list[str]:
    """Return the swept settings that decide, with the method, whether a job can work.

    Only groups, where there are too many combinations of all to try.
    """
    for names in ((*PAIR, *SETTINGS), PAIR):
        keys = [key for key in values if key != METHOD and _is_of(key, names)]
        if math.prod(len(values[key]) for key in keys) <= max(1, MAX_PAIRS // methods):
            break
    return keys


def _is_of(key: str, names: Sequence[str]) -> bool:
    name = key_of(key)
    return not name.endswith(".seed") and any(name == each or name.startswith(f"{each}.") for each in names)


def _networks(
    values: Mapping[str, Sequence[str]], keys: Sequence[str], methods: int
) -> tuple[list[dict[str, str]], bool]:
    """Return the combinations of the settings of ``_deciding``, and whether these are all.

    Beyond ``MAX_PAIRS`` only the first: the other jobs try themselves when they run.
    """
    whole = math.prod(len(values[key]) for key in keys) <= max(1, MAX_PAIRS // methods)
    product = itertools.product(*(values[key] for key in keys))
    return [dict(zip(keys, each, strict=True)) for each in islice(product, None if whole else 1)], whole


class _Trial:
    """Tries methods, the first that works with all that is to be checked of a job.

    Args:
        is_here: whether the jobs run on this machine, so that methods can be tried with the jobs' data.
    """

    def __init__(self, composed: Callable[[Mapping[str, str]], DictConfig], is_here: bool):
        from kd.pipeline.tryout import Tryout

        self.composed, self.tryout, self.seen = composed, Tryout() if is_here else None, set[str]()
        self.absent: set[str] = set()  # methods that lack a setting of the command

    def refuse(self, methods: Sequence[str], first: Mapping[str, str], networks: Mapping[str, str]) -> list[Refusal]:
        """Return the refused of ``methods``, with the networks of ``first`` or, where given, of ``networks``.

        Raises:
            ValueError: with the networks of ``first`` none can work, or there is no such option.
        """
        refused, is_checked = [], bool(networks)
        for method in methods:
            try:
                self._try({**first, **networks, METHOD: method}, is_checked)
                is_checked = True
            except (ValueError, OSError) as error:
                if isinstance(error.__cause__, MissingConfigException):
                    raise
                if isinstance(error.__cause__, HydraException):
                    self.absent.add(method)
                refused.append(Refusal(method, networks, str(error)))
        sentences = {r.sentence: r.method for r in refused}
        if len(refused) == len(methods) and not networks:
            if len(sentences) == 1:
                raise ValueError(*sentences)
            words = first_few((f"kd={name}: {each}" for each, name in sentences.items()), 3, "\n")
            raise ValueError(f"none of the {len(methods)} methods can work:\n{words}")
        return refused

    def refuse_value(
        self, methods: Sequence[str], names: Collection[str], first: Mapping[str, str], value: Mapping[str, str]
    ) -> list[Refusal]:
        """Return the methods that a value of a setting does not suit; [] if it suits the first that can work.

        Args:
            names: of the methods that are refused with ``first``. They matter only if the value suits no other.

        Raises:
            ValueError: it suits no method, or there is no such option.
        """
        refused: list[Refusal] = []
        errors: list[Exception] = []
        working = [method for method in methods if method not in names]
        for method in [*working, *(method for method in methods if method in names)]:
            if method in names and len(refused) < len(working):
                break
            try:
                self._try({**first, **value, METHOD: method}, False, method in names)
            except (ValueError, OSError) as error:
                if isinstance(error.__cause__, MissingConfigException):
                    raise
                errors.append(error)
                refused += [Refusal(method, value, str(error))] if method in working else []
                continue
            if not refused or method in names:
                break
        if len(errors) == len(methods):
            raise errors[0]
        return refused

    def _try(self, cell: Mapping[str, str], is_checked: bool, runs: bool = True) -> None:
        """Try the method of a cell.

        Args:
            is_checked: nothing but its method has still to be checked. runs: whether to run it on its networks.
        """
        from kd.pipeline.preflight import try_objects

        cfg, settings, choices = checked(self.composed(cell))
        if not (is_checked and self.tryout):
            check_outputs(settings["outputs"])
            try_objects(cfg, settings, choices, self.seen)
        if self.tryout and runs:
            self.tryout.try_method(cfg, choices)


def _joined(refused: Sequence[Refusal], others: Sequence[Mapping[str, str]]) -> list[Refusal]:
    """Name the networks in the refusals of methods that some networks suit.

    Args:
        refused: those with the first networks name none. others: all networks that were tried, the first among them.
    """
    joined = []
    for method in dict.fromkeys(r.method for r in refused):
        own = [r for r in refused if r.method == method]
        if len(own) >= len(others):
            joined.append(own[0])
        else:
            joined += [r if r.networks else r._replace(networks=others[0]) for r in own]
    return joined
