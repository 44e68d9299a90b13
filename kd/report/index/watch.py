"""Write the front page of an outputs folder once, or again and again while runs are under way."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kd.report.index import page
from kd.report.index.scan import Index, scan
from kd.report.index.state import STATES
from kd.report.sweep.names import many
from kd.store.files import write_text

PAUSE = 4.0  # seconds between two looks
SHARE = 10  # a look takes at most one tenth of the time: a folder of thousands is looked at less often


def is_outputs(folder: Path) -> bool:
    """Whether a folder is an outputs folder, not that of a run or of a sweep."""
    own = any(os.path.exists(folder / name) for name in ("result.json", "config.yaml", "sweep.json"))
    return not own and any(os.path.isdir(folder / name) for name in ("runs", "sweeps"))  # Path's raise for long names


def is_empty_outputs(folder: Path) -> bool:
    """Whether a folder may become an outputs folder: it is empty, or holds only what a first run begins with."""
    begins = {".gitkeep", ".locks", "data", "teachers", "students", "logits", "costs", "machines", "unfinished"}
    try:
        return all(path.name in begins for path in folder.iterdir())
    except OSError:
        return False


def write_index(outputs: Path) -> tuple[Path, Index]:
    """Write ``index.html`` into an outputs folder; read only the runs that changed since the page was last written."""
    index = scan(outputs, page.read_rows(outputs / page.NAME))
    return _write(outputs, index), index


def watch(
    outputs: Path, on_change: Callable[[Index], None], pause: float = PAUSE, over: Callable[[], bool] = lambda: False
) -> None:
    """Write the page whenever something changed, until Ctrl-C. It opens itself again meanwhile, and no longer after.

    Args:
        on_change: called with what was written. over: when to stop, besides.
    """
    rows = page.read_rows(outputs / page.NAME)
    index = None
    try:
        while True:
            began = time.perf_counter()
            found = scan(outputs, rows)
            rows = {run["id"]: run for run in found.runs}
            if found != index:
                index = found
                _write(outputs, index, reload=pause + 1)
                on_change(index)
            if over():
                break
            time.sleep(max(pause, SHARE * (time.perf_counter() - began)))
    finally:
        if index is not None:
            _write(outputs, index)


def _write(outputs: Path, index: Index, reload: float = 0.0) -> Path:
    path = outputs / page.NAME
    write_text(path, page.html(index, outputs, _more(outputs), reload))
    return path


def _more(outputs: Path) -> str:
    """Return what a run's command needs to find this folder from the working folder: "" if it is its own."""
    own = Path(os.environ.get("KD_OUTPUTS") or "outputs").expanduser()
    return "" if own.absolute() == outputs.absolute() else shlex.quote(f"outputs={outputs.absolute()}")


def summary(index: Index) -> str:
    """``1,204 runs (1,190 finished, 3 under way, 11 failed), 12 sweeps``."""
    counts = Counter(run["state"] for run in index.runs)
    detail = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    return (
        f"{many(len(index.runs), 'run')}" + (f" ({detail})" if detail else "") + f", {many(len(index.sweeps), 'sweep')}"
    )
