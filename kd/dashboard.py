"""Build the W&B workspace of a project: ``python -m kd.dashboard --project kd --entity me``.

Run it once per project, and again after a change in ``kd.tracking.workspace``. It needs the extra
(``pip install -e ".[dashboard]"``) and, except for ``--dry-run``, an API key.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kd.config.keys import quote_value
from kd.config.rules import GROUP_OF_WANDB, WANDB_PATH, or_null
from kd.runtime.streams import open_streams
from kd.tracking.redact import without_secrets
from kd.tracking.workspace import EXTRA, build_workspace, outline, save_workspace

RULES = {"project": WANDB_PATH, "entity": or_null(WANDB_PATH), "name": GROUP_OF_WANDB}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and save the workspace; return the exit code.

    It is 2 if W&B refuses a name, or if the extra, the key or the server is missing. The message says which.
    """
    open_streams()
    given = _parser().parse_args(arguments)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # as for runs, see kd.tracking.wandb_environment
    for name, rule in RULES.items():
        if not rule.good(value := getattr(given, name)):
            print(f"kd.dashboard: --{name} must be {rule.right}, got {quote_value(value)}", file=sys.stderr)
            return 2
    try:
        if given.dry_run:
            print(outline(build_workspace(given.entity or "your account", given.project, given.name)))
            return 0
        saved = save_workspace(given.entity, given.project, given.name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != EXTRA:
            raise
        print('kd.dashboard: the dashboard needs wandb-workspaces: pip install -e ".[dashboard]"', file=sys.stderr)
        return 2
    except Exception as error:  # wandb has no common class for its errors
        print(f"kd.dashboard: {type(error).__name__}: {without_secrets(str(error))}", file=sys.stderr)
        return 2
    print(f"{outline(saved)}\n{saved.url}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kd.dashboard", description="Build the W&B workspace of a project: the panels for its sweeps."
    )
    project, entity = (os.environ.get(f"WANDB_{name}", "").strip() for name in ("PROJECT", "ENTITY"))
    parser.add_argument("--project", default=project or "kd", help="default: WANDB_PROJECT, or kd, as in conf/tracking")
    parser.add_argument(
        "--entity", default=entity or None, help="default: WANDB_ENTITY, or your account's default entity"
    )
    parser.add_argument("--name", default="Distillation", help="name of the workspace; default: Distillation")
    parser.add_argument("--dry-run", action="store_true", help="print the workspace, without network or key")
    return parser


if __name__ == "__main__":
    sys.exit(main())
