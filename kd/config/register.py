"""What Hydra is told beside the yaml files: options that are made of others, and resolvers."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import ListConfig, OmegaConf

from kd.config.combine import offer_combinations
from kd.config.keys import shown
from kd.config.options import conf_dir
from kd.runtime.values import is_number
from kd.search import directions


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


def from_env(name: str, otherwise: str | None) -> str | None:
    """The resolver ``${from_env:NAME,otherwise}``: as ``oc.env``, but a variable that is empty says nothing."""
    return os.environ.get(name, "").strip() or otherwise


def plugin(extra: str, path: str) -> str:
    """The resolver ``${plugin:extra,class}`` of conf/hydra: a class of a Hydra plugin, which an extra brings."""
    package = path.split(".")[1]
    found = importlib.machinery.PathFinder.find_spec("hydra_plugins")
    if found is None or not any((Path(place) / package).is_dir() for place in found.submodule_search_locations or ()):
        raise SystemExit(f"kd: the Hydra plugin {package} is not installed: pip install -e '.[{extra}]'")
    return path


def register() -> None:
    """Tell Hydra our resolvers and the options that are no files."""
    resolvers = {"one_minus": one_minus, "again": again, "directions": goals, "plugin": plugin, "from_env": from_env}
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    offer_combinations()
    offer_students_as_teachers()
