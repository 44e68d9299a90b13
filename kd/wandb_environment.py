"""What the environment says to wandb: where it writes, and, under a ``wandb agent``, which run it is.

wandb takes from the environment what its caller does not say, and under an agent also what its caller says otherwise:
id, project and entity of every run of the process are then the agent's. A process of ours has up to three runs. So
while it tracks, variables that are about one run are out of sight, and ``Tracker`` says what is meant for which.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# variables that are about one run; WANDB_MODE too, which the config decides
OF_ONE_RUN = (
    *("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_NAME", "WANDB_NOTES", "WANDB_TAGS", "WANDB_JOB_TYPE"),
    *("WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"),
    *("WANDB_CONFIG", "WANDB_CONFIG_PATHS", "WANDB_LAUNCH", "WANDB_LAUNCH_CONFIG_PATH", "WANDB_REINIT"),
    *("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_RUN_NAME", "WANDB_RUN_NOTES", "WANDB_RUN_TAGS", "WANDB_RUN_JOB_TYPE"),
)
FOLDERS = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
NO_ID = ":;,#?/'"  # signs that wandb does not take in the id of a run


class Agent(NamedTuple):
    """What a ``wandb agent`` asks of the run that it started.

    The sweep is on the server, in one project: the run must be there too, whatever ``tracking.project`` says.
    """

    sweep: str
    run_id: str | None  # None: somebody named the sweep, and no agent the run
    project: str | None
    entity: str | None
    parameters: Mapping[str, Any]  # by the names that they have in sweep.yaml


def agent() -> Agent | None:
    """Who started this process, if it was an agent.

    Raises:
        ValueError: an id of a run that wandb would not take.
    """
    sweep, run_id, project, entity, page = (
        os.environ.get(f"WANDB_{name}", "").strip()
        for name in ("SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY", "SWEEP_PARAM_PATH")
    )
    if not sweep:
        return None
    if set(run_id) & set(NO_ID):
        raise ValueError(f"WANDB_RUN_ID in the environment must be an id without {' '.join(NO_ID)}, got {run_id!r}")
    return Agent(sweep, run_id or None, project or None, entity or None, _parameters(page))


def _parameters(page: str) -> dict[str, Any]:
    """The values that an agent wrote down for a run; they are on the command line too, so that none is no loss."""
    try:
        told = yaml.safe_load(Path(page).read_text(encoding="utf-8")) if page else {}
        return {name: entry["value"] for name, entry in told.items() if isinstance(entry, dict)}
    except (OSError, ValueError, AttributeError, KeyError, yaml.YAMLError):
        return {}


@contextmanager
def house(root: Path) -> Iterator[None]:
    """For the time of a run, give wandb one place under ``root`` for all it writes, unless the user named another, and
    keep from it what the environment says of a single run."""
    place = root / "wandb"
    place.mkdir(parents=True, exist_ok=True)  # wandb goes to the system's temporary folder where there is none
    wanted = {
        "WANDB_DIR": str(root),
        "WANDB_DATA_DIR": str(place / "data"),
        "WANDB_CACHE_DIR": str(place / "cache"),
        "WANDB_CONFIG_DIR": str(place / "config"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",  # its telemetry adds 10 to 20 s to a run whose server is away
    }
    if Path("~/.config/wandb/settings").expanduser().exists():
        del wanted["WANDB_CONFIG_DIR"]  # `wandb login --host` wrote down there which server is the user's
    said = dict(os.environ)
    if agent() and said.get("WANDB_DIR") == os.getcwd():  # an agent says so where nobody said anything
        del said["WANDB_DIR"]
    said |= {name: os.path.expanduser(said[name]) for name in FOLDERS if name in said}  # wandb would make a folder "~"
    during = {name: said.get(name, value) for name, value in wanted.items()}
    before = {name: os.environ.get(name) for name in (*during, *OF_ONE_RUN)}
    _take(during | dict.fromkeys(OF_ONE_RUN))
    try:
        yield
    finally:
        _take(before)


def _take(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
