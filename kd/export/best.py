"""The run of a sweep that ships: the setting that validation picked, and of its seeds the best by validation.

The choice of the setting is that of the sweep's report. The test split has no part in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from kd.records.ledger import DAMAGE, FINISHED, Cell, Sweep, read_sweep
from kd.records.run_folder import PICKS
from kd.report.sweep.aggregate import Group, groups, picking, picks
from kd.report.sweep.names import group_name
from kd.runtime.console import display_path, print_line
from kd.runtime.errors import first_line


class Choice(NamedTuple):
    """A run, and the sentences that say why."""

    run: Path
    reason: str


def best_run(sweep: Path) -> Path:
    """Return the folder of the best run of a sweep, and print which one it is and why.

    Raises:
        ValueError: see ``choose``.
    """
    choice = choose(read(sweep))
    print_line(choice.reason)
    return choice.run


def read(folder: Path) -> Sweep:
    """Read a sweep, finished or not.

    Raises:
        ValueError: the folder is not that of a sweep.
    """
    if not os.path.isfile(folder / "sweep.json"):
        is_run = os.path.isfile(folder / "result.json")
        hint = "it is a run: leave --best out" if is_run else "name a folder that `python -m kd.run -m …` made"
        raise ValueError(f"--best wants a sweep, and {folder} has no sweep.json; {hint}")
    try:
        return read_sweep(folder)
    except DAMAGE as error:
        raise ValueError(f"{folder / 'sweep.json'} cannot be read: {first_line(error)}") from error


def choose(sweep: Sweep) -> Choice:
    """Return the run that validation picks.

    That is the group (the cells that differ only in the seed) with the highest mean of the validation measure, and of
    its seeds the one with the highest; the first of equals.

    Raises:
        ValueError: no cell has finished, cells were validated on different images, or a run is damaged.
    """
    try:
        found = groups(sweep)
        chosen = picks(found)
    except DAMAGE as error:
        raise ValueError(f"{sweep.folder}: {first_line(error)}") from error
    if not chosen:
        raise ValueError(f"{sweep.folder}: no cell of the sweep has finished, so there is no best one yet")
    measure = picking(found)
    if len(chosen) > 1:
        named = "; ".join(
            f"{group_name(group.values)} ({display_path(_best_seed(group, measure).run)})" for group in chosen
        )
        raise ValueError(
            f"{sweep.folder}: the cells were validated on {len(chosen)} sets of images, so there is one best for each: "
            f"{named}. Name the run to export, without --best"
        )
    (group,) = chosen
    cell = _best_seed(group, measure)
    return Choice(cell.run, _reason(sweep, len(found), group, cell, measure))


def _best_seed(group: Group, measure: str) -> Cell:
    return max(group.cells, key=lambda cell: _score(cell, measure))  # max returns the first of equals


def _score(cell: Cell, measure: str) -> float:
    return cell.result["student"]["training"][f"best_val_{measure}"]


def _reason(sweep: Sweep, count: int, group: Group, cell: Cell, measure: str) -> str:
    mean, score = 100 * group.metrics[f"val_{measure}"].mean, 100 * _score(cell, measure)
    chosen = (
        f"Validation picked {group_name(group.values)}, of {count} settings" if count > 1 else "There is one setting"
    )
    seeds = f"the mean over {len(group.cells)} seeds" if len(group.cells) > 1 else "one seed"
    said = f"{chosen}: validation {PICKS[measure]} {mean:.2f} % ({seeds})."
    if len(group.cells) > 1:
        said += f" Of its seeds, {cell.result['seed']} has the highest, {score:.2f} %."
    left = len(sweep.cells) - sweep.count(*FINISHED, "refused")
    if left:
        said += f" {left} of {len(sweep.cells)} cells have not finished and had no part in the choice."
    return f"{said} Run: {display_path(cell.run)}"
