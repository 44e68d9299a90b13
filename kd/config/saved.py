"""Read the ``config.yaml`` of a run again, which may be somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.runtime.errors import first_line


def read_saved(path: Path, parts: tuple[str, ...], rooms: tuple[str, ...], trusted: bool = False) -> DictConfig:
    """Return the settings of a run.

    Args:
        parts: the groups that the caller makes objects of. rooms: packages whose classes and functions they may name.
        trusted: allow any other code too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, lacks one of ``parts``, or names code outside ``rooms``.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. It holds the settings of the run; kd.run writes it before training"
        )
    try:
        cfg = OmegaConf.load(path)
        if not isinstance(cfg, DictConfig):
            raise ValueError("it must hold settings by name")
        plain = OmegaConf.to_container(cfg, resolve=True)
        missing = [part for part in parts if not isinstance(plain.get(part), dict)]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
    except Exception as error:  # yaml and OmegaConf have no common class
        raise ValueError(f"{path} cannot be read as the settings of a run: {first_line(error)}") from error
    for part in parts if not trusted else ():
        for target in targets_in(plain[part]):
            if not is_of(target, rooms):
                raise ValueError(
                    f"{path} names {target}, which is code outside kd, and running it may do anything. If you trust "
                    "the author of this run as you would with Python code, say --trusted"
                )
    return cfg


def targets_in(node: Any) -> Iterator[str]:
    """Yield every ``_target_`` in plain values."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from targets_in(inner)


def is_of(target: str, rooms: tuple[str, ...]) -> bool:
    """Whether a dotted name is a class or a function that a module of these packages defines itself."""
    module, _, name = target.rpartition(".")
    if not any(module.startswith(f"{room}.") for room in rooms):
        return False
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return callable(found) and getattr(found, "__module__", None) == module
