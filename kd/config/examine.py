"""Try what a command asks for, before anything is written: every object that needs no data is made once, and dropped.

What can be told without torch is told first, by ``kd/config/checks.py``. What only a method and two networks together
know is told when the data are there, and still before anything is trained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from kd.config.build import blaming, build_network, data_of, fitted, made, objective_of, twin_of
from kd.config.checks import check_length, check_outputs
from kd.config.combine import settled
from kd.config.composed import checked
from kd.config.keys import shown
from kd.config.options import assistants_of, members_of
from kd.store import digest
from kd.tracking.wandb_environment import find_agent

if TYPE_CHECKING:
    from kd.models.normalized import Normalized

TIMM = "kd.models.backbone.build"
CLASSES = 10  # of the networks that are tried
SMALL = 256  # pixels a side, up to which a network is run and not only its shapes


def examine(config: Any) -> None:
    """Refuse what cannot become a run on this machine.

    Args:
        config: as Hydra composed it, with Hydra's part.

    Raises:
        ValueError: with the setting, its value and what would be right.
    """
    cfg, settings, choices = checked(config)
    check_outputs(settings["outputs"])
    check_length(str(config.hydra.output_subdir or ""), "hydra.output_subdir")
    if any(line.startswith("hydra.run.dir=") for line in config.hydra.overrides.hydra):
        check_outputs(config.hydra.run.dir, "hydra.run.dir")
    if "params" in config.hydra.sweeper and config.hydra.sweeper.params:
        raise ValueError("hydra.sweeper.params is what a sweep takes, and this is one run: say -m")
    find_agent()  # which refuses what it cannot be
    from kd.models import hub

    if names := pretrained(settings, choices):
        hub.ask()  # while torch is imported
    fetched = settings["data"].get("root", "") is None  # perhaps from far away: when all else is right
    if not fetched:
        try_data(cfg)

    from kd.machine import find_device

    find_device(settings["train"]["device"])
    try_out(cfg, settings, choices, set())
    for name in names:
        hub.find(name)
    if fetched:
        try_data(cfg)


def examine_all(configs: Iterable[Any]) -> None:
    """Refuse a sweep of which a cell cannot become a run; on which machine it will be one is not known here.

    Raises:
        ValueError: as of ``examine``.
    """
    cells, seen = [checked(config) for config in configs], set[str]()
    for cell in cells:
        check_outputs(cell[1]["outputs"])
        try_out(*cell, seen)


def try_out(cfg: Any, settings: Mapping[str, Any], choices: Mapping[str, str], seen: set[str]) -> None:
    """Make what ``checked`` returned: methods, recipes, networks.

    Args:
        seen: the networks that were tried before; this one's are added.

    Raises:
        ValueError: as of ``examine``.
    """
    cfg, choices = settled(cfg, choices)
    with blaming(cfg):
        objective = objective_of(cfg.kd)
        twin_of(cfg.twin)
    size, members = settings["data"].get("image_size"), members_of(settings, choices["teacher"])
    for page, role, spec in networks(settings, members, bool(objective.needs)):
        parts = ("network", "attention", "checkpoint", "checkpoint_prefix")
        key = digest({"role": role, "size": size, **{part: spec.get(part) for part in parts}})
        if isinstance(size, int) and key not in seen:
            seen.add(key)
            with blaming(cfg, page):
                network = try_network(role, spec, size)
            show_picture(network, role, spec, size, partial(comes_in, cfg))
            if spec.get("checkpoint") and not hasattr(network.network, "read"):  # a program is read where it is trusted
                from kd.weights import look_at

                look_at(network, Path(spec["checkpoint"]).expanduser(), spec["checkpoint_prefix"])
    from kd.plan import keys_of  # which take a second to import
    from kd.teacher import choose_source

    choose_source(settings["teacher"]["source"], objective.needs, 0)
    listed = "weights" not in settings["kd"]  # kd=combine, which is written out by now
    method = OmegaConf.to_container(cfg.kd, resolve=True) if listed else settings["kd"]
    keys_of({**settings, "kd": method}, "", bool(objective.needs), members)
    for page in ("data.augment", "train.student", "train.teacher"):  # last: the loop takes a second to import
        group, _, name = page.partition(".")
        with blaming(cfg, page):
            made(cfg[group][name])


def pretrained(settings: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """The networks of timm that shall begin with timm's weights."""
    specs = networks(settings, members_of(settings, choices["teacher"]), taught=True)
    pages = [spec["network"] for _, _, spec in specs if spec["network"].get("pretrained")]
    return sorted({page["name"] for page in pages if page["_target_"] == TIMM})


class Enough(BaseException):
    """From here on data would be read. No Exception: a data set that downloads makes its own words of those."""


class NoStore:
    """Stops a data set at its first look into the store, which comes behind all that it checks without a pixel."""

    def obtain(self, *asked: Any) -> Any:
        raise Enough

    path = obtain


def try_data(cfg: Any) -> None:
    """Look for the data, without reading them.

    Raises:
        ValueError: settings of the data, or places, that cannot be.
    """
    with suppress(Enough), blaming(cfg, "data"):
        data_of(cfg, NoStore())


def comes_in(cfg: Any, image_size: int) -> bool:
    """Whether the data set takes another ``data.image_size``; what would be fetched first is not asked."""
    if cfg.data.get("root", "") is None:
        return True
    try:
        with suppress(Enough):
            data_of(cfg, NoStore(), image_size=image_size)
    except Exception:
        return False
    return True


def networks(
    settings: Mapping[str, Any], members: Sequence[Mapping[str, Any]], taught: bool
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(whose fault it is, role, spec) of all networks of a run: the student's first, which is the quickest to try."""
    yield "student", "student", {"network": settings["student"]}
    assistants = assistants_of(settings) if taught else []
    for number, spec in enumerate(assistants, 1):
        yield f"kd.assistants, number {number}", f"assistant_{number}", spec
    for number, spec in enumerate(members, 1):
        yield f"teacher.ensemble, number {number}", f"teacher_{number}", spec
    if not members:
        whole = {**settings["teacher"], "attention": settings["attention"]}
        if settings["attention"]["wrap"]:
            yield "teacher.network", "teacher", {"network": whole["network"]}
            yield "attention.wrap", "teacher", whole
        else:
            yield "teacher.network", "teacher", {**whole, "attention": None}


def try_network(role: str, spec: Mapping[str, Any], image_size: int) -> Normalized:
    """Make a network, without weights of elsewhere; of a large picture's size, on torch's meta device.

    Raises:
        ValueError: one that does not fit into memory.
    """
    import torch

    from kd.models.normalized import Normalized

    spec = {**spec, "network": {name: value for name, value in spec["network"].items() if name != "pretrained"}}
    with torch.device("meta"):  # has shapes and no memory
        network = build_network(spec, CLASSES, image_size, tried=False)
    count = sum(weight.numel() for weight in network.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
    if 4 * count > memory:
        said = ", ".join(f"{role}.{name}={shown(value)}" for name, value in spec["network"].items() if name[0] != "_")
        raise ValueError(f"{said}: {count:,} parameters, {4 * count / 2**30:,.0f} GB, do not fit into memory")
    with torch.device(_device(image_size)):  # on meta nobody can compare what a network says with and without attention
        network = build_network(spec, CLASSES, image_size, tried=image_size <= SMALL)
        return Normalized(network, [0.0] * 3, [1.0] * 3)


def show_picture(
    network: Normalized, role: str, spec: Mapping[str, Any], image_size: int, comes_in: Callable[[int], bool]
) -> None:
    """Refuse a network that does not take images of this size.

    Args:
        comes_in: whether the data set has another size.

    Raises:
        ValueError: with what would help.
    """
    import torch

    with torch.device(_device(image_size)), suppress(FileNotFoundError):  # of a network that is in a file
        fitted(network, spec, role, CLASSES, image_size, comes_in)


def _device(image_size: int) -> str:
    return "cpu" if image_size <= SMALL else "meta"
