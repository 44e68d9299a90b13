"""``python -m kd.diagnose RUN``: why distillation helps or does not, from the files of a run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from kd.diagnose.evidence import read_evidence
from kd.diagnose.text import terminal
from kd.diagnose.verdict import diagnose
from kd.runtime.console import display_folder
from kd.runtime.streams import open_streams

DESCRIPTION = """
Say what limits a run: whether its teacher knows more than the baseline, what the teacher's answers hold beyond the
labels, how much of the gradient each term has, whether the student underfits or overfits, and whether the gain is more
than noise. Each sentence has the figure that carries it and the setting to try. It reads result.json, metrics.jsonl,
predictions.npz and training_views.npz, and trains nothing.
"""
EPILOG = "Exit code 2: a file is missing or damaged; the message says which one."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    open_streams()
    parser = argparse.ArgumentParser(prog="python -m kd.diagnose", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("run", nargs="+", type=display_folder, help="outputs/runs/NAME")
    parser.add_argument("--json", action="store_true", help="print figures and findings as JSON, a line for each run")
    given, failed = parser.parse_args(arguments), False
    for number, folder in enumerate(given.run):
        try:
            diagnosis = diagnose(read_evidence(folder))
        except (ValueError, KeyError) as error:  # ReportError is a ValueError
            failed = True
            missing = f"{folder}: the entry {error} is missing in result.json" if isinstance(error, KeyError) else error
            print(f"kd.diagnose: {missing}", file=sys.stderr)
            continue
        print(json.dumps(diagnosis.to_dict()) if given.json else "\n\n" * bool(number) + terminal(diagnosis))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
