"""The name of a sweep and the command that started it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from kd.config.command_line import as_value
from kd.config.keys import key_of
from kd.config.wandb_names import as_group
from kd.store.store import digest, shortened

NOT_IN_NAMES = ("tracking", "outputs", "sweep", "hydra", "report")  # settings that do not change what a sweep computes


def command_of(given: Sequence[str], outputs: Path, folder: Path) -> str:
    """Return the command that resumes the sweep from any folder."""
    kept = [o for o in given if key_of(o) not in ("hydra.mode", "outputs", "hydra.sweep.dir")]
    if outputs != Path("outputs").absolute():
        kept.append(f"outputs={as_value(str(outputs))}")
    if any(key_of(o) == "hydra.sweep.dir" for o in given):
        kept.append(f"hydra.sweep.dir={as_value(str(folder))}")
    return shlex.join(["python", "-m", "kd.run", "-m", *kept])


def name_group(cfg: DictConfig, folder: Path) -> None:
    """Give the W&B runs of a job the name of its sweep as their group, unless the user chose a group."""
    if cfg.tracking.group is None:
        cfg.tracking.group = as_group(folder.name)


def sweep_name(
    swept: Sequence[Override], fixed: Sequence[str], experiment: str | None, aside: Sequence[str] = NOT_IN_NAMES
) -> str:
    """Name a sweep by what it computes: the same command has the same folder and resumes the sweep."""
    overrides = [o.input_line for o in swept] + list(fixed)
    kept = sorted(line for line in overrides if key_of(line).split(".")[0].split("/")[0] not in aside)
    keys = [key_of(o.get_key_element()).split(".")[-1] for o in swept]
    return f"{shortened(experiment or '-'.join(keys) or 'sweep')}-{digest({'overrides': kept})[:6]}"


def grid_cells(swept: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of every cell, in the order in which Hydra's own sweeper runs them."""
    cells: list[list[str]] = [[]]
    for override in swept:
        key = override.get_key_element()
        cells = [[*cell, f"{key}={value}"] for cell in cells for value in override.sweep_string_iterator()]
    return cells
