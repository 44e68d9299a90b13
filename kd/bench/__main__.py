"""Compare the speed of this framework with a person's loop and with torchdistill: ``python -m kd.bench``.

One distillation job is trained by several programs in turns, a b c, a b c, ..., each in a process of its own: the same
images, batch, networks and epochs, the same threads. ``python -m kd.bench augments`` measures augmentations alone. See
docs/bench.md for what each figure means.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.runtime.console import display_folder
from kd.runtime.streams import open_streams

NAMES = ("naive", "torchdistill", "live", "cached", "one_pass", "live float32", "cached float32")
MEASURES = ("parts", "ceiling", "start_up", "two_at_once", "scaling", "sweep")
USUAL = MEASURES[:4]
AUGMENTS = "augments"  # the first argument that measures augmentations instead


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 2 for a wrong argument."""
    open_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == [AUGMENTS]:
        from kd.bench.augments import main as measure_augments

        return measure_augments(arguments[1:])
    given = parse_arguments(arguments)
    from kd.bench.measure import measure
    from kd.bench.setting import Setting

    folder = given.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [f"{group}={option}" for group in ("teacher", "student") if (option := getattr(given, group))]
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as scratch:
        setting = Setting(
            folder=scratch,
            overrides=(*chosen, *given.overrides),
            images=given.images,
            batch_size=given.batch_size,
            image_size=given.image_size,
            epochs=given.epochs,
            threads=given.threads,
            students=given.one_pass,
            **({"workers": given.workers} if given.workers is not None else {}),
        )
        try:
            found = measure(setting, given.jobs, given.rounds, given.measure, given.students)
        except ValueError as error:
            print(f"kd.bench: {error}", file=sys.stderr)
            return 2
    write(found, folder)
    return 0


def write(found: dict[str, Any], folder: Path) -> None:
    """Write ``bench.json``, ``bench.md`` and ``bench.png``; print the table."""
    from kd.bench.table import markdown
    from kd.report.figures.benchmark import benchmark
    from kd.report.figures.style import save

    (folder / "bench.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    page = markdown(found)
    (folder / "bench.md").write_text(page, encoding="utf-8")
    save(benchmark(found), folder / "bench.png")
    print(f"\n{page}\n{folder / 'bench.md'}, bench.json, bench.png")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kd.bench",
        description="Train one distillation job by several programs in turns, and compare their speed.",
        epilog=f"jobs: {', '.join(NAMES)}. measurements: {', '.join(MEASURES)}. "
        f"python -m kd.bench {AUGMENTS} --help: the speed of augmentations, without a network.",
    )
    number = positive
    parser.add_argument(
        "--jobs", type=listed(NAMES), default=list(NAMES), help="jobs, separated by commas (default: all)"
    )
    parser.add_argument("--rounds", type=number, default=3, help="rounds after the warm-up (default: 3)")
    parser.add_argument("--images", type=number, default=384, help="training images of an epoch (default: 384)")
    parser.add_argument("--batch-size", type=number, default=64, help="default: 64")
    parser.add_argument("--image-size", type=number, default=100, help="pixels (default: 100)")
    parser.add_argument("--epochs", type=number, default=1, help="epochs of one call (default: 1)")
    parser.add_argument("--threads", type=number, default=None, help="threads of torch in every job (default: torch's)")
    parser.add_argument(
        "--workers",
        type=int,
        default=None,
        help="DataLoader workers of naive and torchdistill (default: cores, up to 4)",
    )
    parser.add_argument("--one-pass", type=number, default=4, help="students of the job one_pass (default: 4)")
    parser.add_argument("--teacher", default=None, help="option of the group teacher (default: vea_resnet18)")
    parser.add_argument("--student", default=None, help="option of the group student (default: tiny_cnn)")
    parser.add_argument(
        "--measure",
        type=listed(MEASURES),
        default=list(USUAL),
        help=f"what to measure besides the rounds, separated by commas (default: {','.join(USUAL)})",
    )
    parser.add_argument("--scaling", action="store_true", help="measure scaling, too")
    parser.add_argument("--sweep", action="store_true", help="measure a sweep of 12 cells, too")
    parser.add_argument(
        "--students",
        type=lambda text: [positive(part) for part in text.split(",")],
        default=[1, 2, 4, 8, 16, 32],
        help="numbers of students of the scaling, separated by commas (default: 1,2,4,8,16,32)",
    )
    parser.add_argument(
        "--out", type=display_folder, default=Path("bench"), help="folder of the results (default: bench)"
    )
    parser.add_argument("overrides", nargs="*", help="further settings as for kd.run, e.g. data=intel")
    given = parser.parse_args(arguments)
    given.measure += [name for name in ("scaling", "sweep") if getattr(given, name) and name not in given.measure]
    return given


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value


def listed(known: Sequence[str]) -> Any:
    """Return a parser of names separated by commas; "" is no name."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
