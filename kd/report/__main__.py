"""``python -m kd.report FOLDER``: make the report of a run or of a sweep again, or the front page of all runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.records.run_folder import FILES, OPTIONAL, load_json, read_part
from kd.report.run.tables import seeds_rows, terminal_table
from kd.report.text import markdown_table
from kd.runtime.console import display_folder, print_line
from kd.runtime.streams import open_streams


def main(arguments: Sequence[str] | None = None) -> int:
    from kd.report.index.watch import is_empty_outputs, is_outputs
    from kd.report.sweep.comparison import settings_of
    from kd.report.sweep.tables import COLUMNS, OVER

    open_streams()
    parser = argparse.ArgumentParser(
        prog="python -m kd.report",
        description="Make the report of a run or of a sweep again, from the files in its folder alone, and print its "
        "table; of an outputs folder make index.html, one page with all its runs and sweeps. A sweep may still be "
        "running. For several runs that differ only in their seed, also print mean and standard "
        "deviation. From a run this reads "
        + ", ".join(FILES)
        + f" and, if it exists, {', '.join(OPTIONAL)}; from a sweep its ledger and the runs that it lists.",
        epilog="Exit code 2: a file is missing or damaged; the message says which one.",
    )
    parser.add_argument(
        "folder", nargs="+", type=display_folder, help="outputs/runs/NAME, outputs/sweeps/NAME, or outputs"
    )
    parser.add_argument(
        "--watch", action="store_true", help="keep the page of an outputs folder up to date, until Ctrl-C"
    )
    alone = parser.add_mutually_exclusive_group()
    for style in ("latex", "markdown"):
        help_text = f"only print the sweep's table as {style}: mean ± std (n), bold where significant"
        alone.add_argument(f"--{style}", dest="style", action="store_const", const=style, help=help_text)
    table = parser.add_argument_group("the table of a sweep")
    table.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="add a column: the accuracy of each group minus that of the one group with these settings (kd=hinton; "
        "separate several by commas), paired by seed and test image; bold where significantly better",
    )
    table.add_argument(
        "--columns",
        metavar="NAME,…",
        help=f"the columns, in this order: {', '.join(COLUMNS)}; {OVER}: the column of --against",
    )
    table.add_argument("--sort", metavar="NAME", help="sort the students by this column, highest first")
    chosen = parser.parse_args(arguments)
    shape = {
        "columns": [name.strip() for name in chosen.columns.split(",") if name.strip()] if chosen.columns else None,
        "sort": chosen.sort,
    }
    has_table_options = bool(chosen.against or chosen.columns or chosen.sort)
    failed, results = False, []
    for folder in chosen.folder:
        try:
            if not (chosen.style or has_table_options) and (is_outputs(folder) or is_empty_outputs(folder)):
                _report_outputs(folder, chosen.watch)
            elif chosen.watch:
                raise ValueError(f"--watch follows an outputs folder, which holds runs/ or sweeps/; {folder} does not")
            elif chosen.style or has_table_options or os.path.isfile(folder / "sweep.json"):
                _report_sweep(folder, chosen.style, against=settings_of(chosen.against), **shape)
            else:
                results.append(_report_run(folder))
        except (ValueError, FileNotFoundError) as error:  # ReportError is a ValueError
            failed = True
            print(f"kd.report: {error}", file=sys.stderr)
    if len(results) > 1:
        try:
            print(
                "Over the seeds, mean ± standard deviation (n):\n\n" + markdown_table(seeds_rows(results), ("metric",))
            )
        except ValueError as error:
            print(error)
    return 2 if failed else 0


def _report_run(folder: Path) -> dict[str, Any]:
    from kd.report.run.report import write_report  # imports what draws figures

    paths = write_report(folder)
    result = read_part(folder, "result.json", load_json)
    print(terminal_table(result))
    print(f"Report: {paths['report']} with {len(paths) - 1} figures\n")
    return result


def _report_outputs(folder: Path, is_watched: bool) -> None:
    """Write the front page of an outputs folder; with ``is_watched`` until Ctrl-C."""
    from kd.report.index.watch import is_empty_outputs, summary, watch, write_index

    if not is_watched:
        if is_empty_outputs(folder):
            raise ValueError(f"{folder} holds no runs yet: `python -m kd.run outputs={folder}` makes the first one")
        path, index = write_index(folder)
        print(f"{summary(index)}\nFront page: {path}\n")
        return
    print(f"Front page: {folder / 'index.html'}, written again whenever something changes, until Ctrl-C", flush=True)
    try:
        watch(folder, lambda index: print_line(summary(index)))
    except KeyboardInterrupt:
        print("It stays as it is now; the same command goes on.")


def _report_sweep(folder: Path, style: str | None, **shape: Any) -> None:
    """Print the table of a sweep, and make its report. ``shape``: arguments of ``kd.report.sweep.tables.markdown``."""
    from kd.records.ledger import read_sweep
    from kd.report.sweep import tables
    from kd.report.sweep.aggregate import groups
    from kd.report.sweep.report import write_sweep_report

    if style:
        print(getattr(tables, style)(groups(read_sweep(folder)), **shape))
        return
    table = tables.markdown(groups(read_sweep(folder)), **shape)
    made = write_sweep_report(folder)
    print(table or "No cell has finished yet.")
    print(f"Report: {made['html']}\n")


if __name__ == "__main__":
    sys.exit(main())
