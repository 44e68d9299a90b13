"""Register with Hydra what has no yaml file: resolvers, and options made from other options."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path

from omegaconf import ListConfig, OmegaConf

from kd.config.generated import register_generated
from kd.config.help import help_chosen, help_group, help_setting
from kd.config.keys import quote_value
from kd.config.search_objective import directions
from kd.runtime.values import is_number


def one_minus(share: float) -> float:
    """The resolver ``${one_minus:...}``: 1 - share, the weight that one term leaves to the other."""
    if not is_number(share) or not 0 <= share <= 1:
        raise ValueError(f"the teacher's share of the loss must lie in [0, 1], got {quote_value(share)}")
    return round(1 - share, 12)  # 1 - 0.9 is 0.09999999999999998


def repeat_student(generations: int) -> ListConfig:
    """The resolver ``${again:...}``: all generations but the last, each a copy of the student."""
    if type(generations) is not int or not 1 <= generations <= 100:
        raise ValueError(f"generations must be 1 to 100, got {quote_value(generations)}")
    return ListConfig(["student"] * (generations - 1))


def search_directions(optimized_metric: str | list[str]) -> str | list[str]:
    """The resolver ``${directions:${optimized_metric}}``: maximize or minimize."""
    try:
        return directions(optimized_metric)
    except ValueError as error:
        raise SystemExit(f"kd: {error}") from None


def from_env(name: str, otherwise: str | None) -> str | None:
    """The resolver ``${from_env:NAME,otherwise}``: as ``oc.env``, but an empty variable counts as unset."""
    return os.environ.get(name, "").strip() or otherwise


def plugin(extra: str, path: str) -> str:
    """The resolver ``${plugin:extra,class}`` of conf/hydra: a class of a Hydra plugin, which an extra installs."""
    package = path.split(".")[1]
    spec = importlib.machinery.PathFinder.find_spec("hydra_plugins")
    if spec is None or not any((Path(path) / package).is_dir() for path in spec.submodule_search_locations or ()):
        raise SystemExit(f"kd: the Hydra plugin {package} is not installed: pip install -e '.[{extra}]'")
    return path


def register() -> None:
    """Register resolvers and generated options. Calling it again changes nothing."""
    resolvers = {
        "one_minus": one_minus,
        "again": repeat_student,
        "directions": search_directions,
        "plugin": plugin,
        "from_env": from_env,
    }
    resolvers |= {"help_group": help_group, "help_setting": help_setting, "help_chosen": help_chosen}
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    register_generated()
