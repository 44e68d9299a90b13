"""``python -m kd.export RUN``: write a trained student as files that other programs run; measure and judge them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd.runtime.console import display_folder, display_path
from kd.runtime.errors import first_line
from kd.runtime.signals import exit_now, install_handlers
from kd.runtime.streams import open_streams
from kd.runtime.user_warnings import show_plainly
from kd.runtime.values import is_number

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # the extra "export"
OTHERS = ("openvino", "coreml", "tflite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 2 for a refusal, and 1 if a file was written that may not ship."""
    open_streams()
    given, written = parse_arguments(arguments), None
    try:
        check(given)
        source, report = write(given)
        written = source.out
        return share(source, report, given)
    except (ValueError, OSError) as error:
        print(f"kd.export: {explain(error, given.out or given.run)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        outcome = f"{display_path(written)} is complete" if written else "nothing was written"
        print(f"kd.export: interrupted; {outcome}", file=sys.stderr, flush=True)
        exit_now()
        return 130


def explain(error: ValueError | OSError, place: Path) -> str:
    """Return one sentence; an error of the system names what the user named, and no file beside it that is temporary.

    Args:
        place: what is read or written.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    named = Path(str(error.filename or place))
    return f"{place if any(part.startswith('.') for part in named.parts) else named}: {error.strerror}"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kd.export",
        description="Write the student of a run to RUN/deploy/: student.onnx, student.int8.onnx, student.pt2, a model "
        "card, and report.md, which says how large, how good and how fast each file is, and whether it may ship.",
        epilog="Exit code 0: every file may ship. 1: report.md names a file that may not. 2: the command was refused; "
        "the message says why.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=display_folder,
        help="outputs/runs/NAME, a student.safetensors alone, or with --best a sweep",
    )
    parser.add_argument("--out", type=display_folder, metavar="FOLDER", help="write to FOLDER in place of RUN/deploy")
    parser.add_argument("--best", action="store_true", help="RUN is a sweep: export the cell that validation picked")
    parser.add_argument(
        "--trusted", action="store_true", help="run code outside kd that RUN names: your own students and data sets"
    )
    quantised = parser.add_argument_group("int8")
    quantised.add_argument(
        "--max-drop",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="points of test accuracy that int8 may lose, default 1.0",
    )
    quantised.add_argument(
        "--auto", action="store_true", help="if it loses more, leave the layers that do harm in float32"
    )
    quantised.add_argument("--no-int8", action="store_true", help="write no student.int8.onnx")
    measured = parser.add_argument_group("measuring")
    measured.add_argument(
        "--images",
        type=display_folder,
        metavar="FOLDER",
        help="test and calibrate on the images of FOLDER, a folder for each class, in place of the run's own data",
    )
    measured.add_argument(
        "--seconds", type=float, default=0.5, help="time of one latency measurement, default 0.5; there are four a file"
    )
    more = parser.add_argument_group("more files")
    for name in OTHERS:
        more.add_argument(f"--{name}", action="store_true", help=f"write the student for {TITLES[name]}, too")
    more.add_argument("--page", action="store_true", help="write page/, a web page that runs the student in a browser")
    more.add_argument(
        "--ort-web", type=display_folder, metavar="FOLDER", help="take onnxruntime-web for the page from FOLDER"
    )
    more.add_argument("--licence", metavar="NAME", help="the licence that the model card states, such as mit")
    more.add_argument("--push", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub")
    return parser.parse_args(arguments)


TITLES = {"openvino": "OpenVINO", "coreml": "Core ML", "tflite": "TensorFlow Lite (LiteRT)"}


def check(given: argparse.Namespace) -> None:
    """Refuse what can be refused before anything heavy is imported.

    Raises:
        ValueError: a missing extra, a value out of range, or an option without effect.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(f'{" and ".join(missing)} must be installed: pip install -e ".[export]"')
    if not is_number(given.max_drop) or not 0 < given.max_drop <= 100:
        raise ValueError(f"--max-drop must be a number of points in (0, 100], got {given.max_drop}")
    if not is_number(given.seconds) or not 0 < given.seconds <= 60:
        raise ValueError(f"--seconds must be a number in (0, 60], got {given.seconds}")
    if given.no_int8 and given.auto:
        raise ValueError("--auto leaves layers out of int8, and --no-int8 writes none: say only one")
    if given.ort_web and not given.page:
        raise ValueError("--ort-web is for the page: add --page")
    from kd.export.other_formats import check_installed

    check_installed(others(given))
    if given.push:
        from kd.export.push import check_name

        check_name(given.push)


def others(given: argparse.Namespace) -> list[str]:
    return [name for name in OTHERS if getattr(given, name)]


def write(given: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Write the folder; return what was exported and the report.

    Raises:
        ValueError, OSError: refused; an earlier export stays as it was.
    """
    from kd.export.publish import check_place, replaced
    from kd.export.report import write_report
    from kd.export.source import open_source

    try:
        from kd.export.write import Wanted, export, find_splits
    except ImportError as error:
        raise ValueError(f'a library of the extra "export" cannot be imported: {first_line(error)}') from error
    if given.best:
        from kd.export.best import best_run

        given.run = best_run(given.run)
    source = open_source(given.run, given.out, given.trusted)
    check_place(source.out)
    if given.page:
        from kd.export.page.ort_web import runtime_files

        runtime_files(given.ort_web)  # before minutes of measuring, not after
    wanted = Wanted(
        max_drop=given.max_drop,
        auto=given.auto,
        int8=not given.no_int8,
        others=others(given),
        seconds=given.seconds,
    )
    with tempfile.TemporaryDirectory(prefix="kd-export-") as scratch, replaced(source.out) as folder:
        splits, origin = find_splits(source, given.images, given.trusted, Path(scratch))
        report = export(source, folder, wanted, splits, origin)
        accompany(folder, source, splits, report, given)
        write_report(folder, report)
    return source, report


def share(source: Any, report: dict[str, Any], given: argparse.Namespace) -> int:
    """Print what was written, log it to W&B and upload it; return the exit code."""
    from kd.export.report import failing
    from kd.export.terminal import summary
    from kd.tracking.deploy import log_deploy

    print(f"\n{summary(report)}\n\nReport: {display_path(source.out / 'report.md')}")
    if source.run and (line := log_deploy(source.run, source.out, report)):
        print(line)
    if given.push:
        from kd.export.push import push

        print(f"uploaded to {push(source.out, given.push)}")
    return 1 if failing(report) else 0


def accompany(folder: Path, source: Any, splits: Any, report: dict[str, Any], given: argparse.Namespace) -> None:
    """Write what accompanies the files: the model card, and the page if it is wanted."""
    from kd.export.card import write_card

    write_card(folder, source.model, source.run, report, given.licence)
    if given.page:
        from kd.export.page import pick_examples, write_page

        examples = None
        if splits and splits.dataset is not None:
            examples = pick_examples(splits.dataset, splits.recorded, source.model.description.key)
        write_page(folder, source.model.description, examples, given.ort_web)


if __name__ == "__main__":
    show_plainly()
    install_handlers()
    sys.exit(main())
