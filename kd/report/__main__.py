"""``python -m kd.report FOLDER``: make the report of a run or of a sweep again."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.records.run_folder import FILES, OPTIONAL, load_json, read_part
from kd.report.run.report import write_report
from kd.report.run.tables import seeds_rows, terminal_table
from kd.report.text import markdown_table
from kd.runtime.console import display_folder
from kd.runtime.streams import open_streams


def main(arguments: Sequence[str] | None = None) -> int:
    from kd.report.sweep.comparison import settings_of
    from kd.report.sweep.tables import COLUMNS, OVER

    open_streams()
    parser = argparse.ArgumentParser(
        prog="python -m kd.report",
        description="Make the report of a run or of a sweep again, from the files in its folder alone, and print its "
        "table. A sweep may still be running. Of several runs that differ in their seed, print mean and standard "
        "deviation too. Of a run this reads "
        + ", ".join(FILES)
        + f" and, where it is there, {', '.join(OPTIONAL)}; of a sweep its ledger and the runs that it names.",
        epilog="Exit code 2: a file is missing or damaged; the message says which one.",
    )
    parser.add_argument("folder", nargs="+", type=display_folder, help="outputs/runs/NAME or outputs/sweeps/NAME")
    alone = parser.add_mutually_exclusive_group()
    for style in ("latex", "markdown"):
        words = (
            f"print the paper's table of a sweep as {style}, and nothing else: mean ± std (n), bold where significant"
        )
        alone.add_argument(f"--{style}", dest="style", action="store_const", const=style, help=words)
    table = parser.add_argument_group("the paper's table of a sweep")
    table.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="a further column: the accuracy of each group less that of the one group of these settings (kd=hinton; "
        "several divided by commas), paired by seed and test image; bold where significantly better",
    )
    table.add_argument(
        "--columns", metavar="NAME,…", help=f"which, in this order: {', '.join(COLUMNS)}; {OVER}: that of --against"
    )
    table.add_argument("--sort", metavar="NAME", help="the column by which the students descend")
    chosen = parser.parse_args(arguments)
    shape = {
        "columns": [name.strip() for name in chosen.columns.split(",") if name.strip()] if chosen.columns else None,
        "sort": chosen.sort,
    }
    asked = bool(chosen.against or chosen.columns or chosen.sort)
    failed, results = False, []
    for folder in chosen.folder:
        try:
            if chosen.style or asked or os.path.isfile(folder / "sweep.json"):
                _sweep(folder, chosen.style, against=settings_of(chosen.against), **shape)
            else:
                results.append(_run(folder))
        except (ValueError, FileNotFoundError) as error:  # ReportError is a ValueError
            failed = True
            print(f"kd.report: {error}", file=sys.stderr)
    if len(results) > 1:
        try:
            print("Over seeds, mean ± standard deviation (n):\n\n" + markdown_table(seeds_rows(results), ("metric",)))
        except ValueError as error:
            print(error)
    return 2 if failed else 0


def _run(folder: Path) -> dict[str, Any]:
    paths = write_report(folder)
    result = read_part(folder, "result.json", load_json)
    print(terminal_table(result))
    print(f"Report: {paths['report']} with {len(paths) - 1} figures\n")
    return result


def _sweep(folder: Path, style: str | None, **shape: Any) -> None:
    """``shape`` is what ``kd.report.sweep.tables.markdown`` takes."""
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
