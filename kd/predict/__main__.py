"""``python -m kd.predict RUN IMAGES...``: the classes of image files, by a network of a run or an exported file."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from kd.data.files import printable
from kd.predict.files import find_files
from kd.runtime.console import display_folder
from kd.runtime.process import configure_process
from kd.runtime.signals import exit_now, exit_silently, install_handlers, received_signal
from kd.runtime.streams import open_streams
from kd.runtime.user_warnings import show_plainly

DESCRIPTION = """
Print the most probable classes of images. RUN is the folder of a run, its student.safetensors alone, a folder of
kd.export, or an ONNX file of kd.export: each says by itself how images are prepared and what the classes are. On the
test images of a run the logits are those of its predictions.npz.
"""
EPILOG = """
Exit code 0: every image has an answer; 1: some files cannot be read as images, and standard error names them; 2: the
command is refused, with the reason. The table, CSV and JSON go to standard output, all else to standard error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, which ``EPILOG`` explains."""
    open_streams()
    given = parse_arguments(arguments)
    try:
        return run(given)
    except KeyboardInterrupt:
        exit_silently()
        exit_now()
        return 128 + (received_signal() or signal.SIGINT)
    except (ValueError, OSError, MemoryError) as error:
        print(f"kd.predict: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Predict, write the answers, and name the files that have none.

    Raises:
        ValueError, OSError: see ``EPILOG``.
    """
    with redirect_stdout(sys.stderr):  # what libraries print would break CSV and JSON
        files = find_files(given.images, read_stdin)
        from kd.predict import classify, labels, networks, outputs, tables  # these import torch

        for option in ("out", "logits"):
            if path := getattr(given, option):
                outputs.check_place(path, f"--{option}")
        network = networks.open_network(given.run, given.model, given.device, given.trusted)
        description = network.description
        targets = labels.labels_of(files, description.classes) if given.labels else None
        found = classify.classify(network, files, targets, given.top, given.batch, bool(given.logits))
        if given.logits:
            outputs.write_logits(given.logits, found)
    if given.json:
        about = {name: getattr(description, name) for name in ("name", "key", "role")}
        content = tables.as_json(found, {**about, "model": given.model or given.run})
    elif given.csv:
        content = tables.as_csv(found)
    else:
        text = tables.terminal(found)
        content = f"{text}\n".encode() if text else b""
    if given.out:
        outputs.write_file(given.out, content)
    elif given.json or given.csv:
        outputs.write_stdout(content)
    elif content:
        print(text, flush=True)
    if found.failed:
        print(
            f"kd.predict: {len(found.failed):,} of {len(files):,} files cannot be read as images:\n  "
            + "\n  ".join(f"{printable(file)}: {reason}" for file, reason in found.failed),
            file=sys.stderr,
        )
    return 1 if found.failed else 0


def read_stdin() -> bytes:
    """Return all of standard input; nothing where it is closed."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kd.predict", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("run", metavar="RUN", type=lambda text: str(display_folder(text)), help="what answers")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="files, folders (with all files in them, at any depth), quoted patterns ('photos/**/*.jpg'), or - for a "
        "list on standard input, one path a line or separated by zero bytes",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="student (the default), teacher, baseline, or an ONNX file that kd.export made from RUN",
    )
    parser.add_argument("--top", type=_count, default=3, metavar="K", help="classes to print of each image; default: 3")
    parser.add_argument(
        "--labels",
        action="store_true",
        help="the name of the folder in which an image lies is its class: give accuracy and confusion matrix, too",
    )
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--csv", action="store_true", help="print CSV: file, class_1, probability_1, class_2, ...")
    style.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=display_folder, metavar="FILE", help="write there in place of standard output")
    parser.add_argument(
        "--logits", type=display_folder, metavar="FILE", help="write the logits there as well, as NumPy's .npz"
    )
    parser.add_argument(
        "--batch",
        type=_count,
        metavar="N",
        help="images that the network gets at a time; default: as many as when the run evaluated, mostly 128. Another "
        "number changes the last bits of the logits",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto; of an ONNX file: cpu"
    )
    parser.add_argument(
        "--trusted", action="store_true", help="build networks of code outside kd, too: the file names code that runs"
    )
    return parser.parse_intermixed_args(arguments)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"it must be a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    configure_process()
    show_plainly()
    install_handlers()
    sys.exit(main())
