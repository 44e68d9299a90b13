"""The environment variables of wandb: its folders, and the run that a ``wandb agent`` assigned to this process.

wandb takes from the environment what its caller leaves out. Under an agent the environment even overrides the caller:
id, project and entity of every run of the process become the agent's. A process of kd has up to three runs, so while it
tracks, variables that concern one run are hidden, and ``Tracker`` assigns each value to the run it belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# variables that concern one run; WANDB_MODE too, which the config decides
RUN_VARIABLES = (
    *("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_NAME", "WANDB_NOTES", "WANDB_TAGS", "WANDB_JOB_TYPE"),
    *("WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"),
    *("WANDB_CONFIG", "WANDB_CONFIG_PATHS", "WANDB_LAUNCH", "WANDB_LAUNCH_CONFIG_PATH", "WANDB_REINIT"),
    *("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_RUN_NAME", "WANDB_RUN_NOTES", "WANDB_RUN_TAGS", "WANDB_RUN_JOB_TYPE"),
)
DIR_VARIABLES = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
FORBIDDEN_IN_ID = ":;,#?/'"


class Agent(NamedTuple):
    """What a ``wandb agent`` asks of the run that it started.

    The agent's sweep lives in one project on the server. The run must be there too, also against ``tracking.project``.
    """

    sweep: str
    run_id: str | None  # None: WANDB_SWEEP_ID was set without an agent, which would name the run
    project: str | None
    entity: str | None
    parameters: Mapping[str, Any]  # by their names in sweep.yaml


def find_agent() -> Agent | None:
    """Return the agent that started this process, or None.

    Raises:
        ValueError: wandb would not accept the run id.
    """
    sweep, run_id, project, entity, file = (
        os.environ.get(f"WANDB_{name}", "").strip()
        for name in ("SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY", "SWEEP_PARAM_PATH")
    )
    if not sweep:
        return None
    if set(run_id) & set(FORBIDDEN_IN_ID):
        signs = " ".join(FORBIDDEN_IN_ID)
        raise ValueError(f"WANDB_RUN_ID in the environment must be a run id without {signs}, got {run_id!r}")
    return Agent(sweep, run_id or None, project or None, entity or None, _read_parameters(file))


def _read_parameters(file: str) -> dict[str, Any]:
    """Read the values that an agent wrote for a run; none is no loss, because the command line has them too."""
    try:
        entries = yaml.safe_load(Path(file).read_text(encoding="utf-8")) if file else {}
        return {name: entry["value"] for name, entry in entries.items() if isinstance(entry, dict)}
    except (OSError, ValueError, AttributeError, KeyError, yaml.YAMLError):
        return {}


@contextmanager
def wandb_dirs(root: Path) -> Iterator[None]:
    """Inside the block wandb writes below ``root/wandb``, unless the user named other folders, and sees no variable
    that concerns one run."""
    folder = root / "wandb"
    folder.mkdir(parents=True, exist_ok=True)  # without it wandb writes to the system's temporary folder
    defaults = {
        "WANDB_DIR": str(root),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",  # its telemetry adds 10 to 20 s to a run whose server is away
    }
    if Path("~/.config/wandb/settings").expanduser().exists():
        del defaults["WANDB_CONFIG_DIR"]  # `wandb login --host` wrote the user's server there
    given = dict(os.environ)
    if find_agent() and given.get("WANDB_DIR") == os.getcwd():  # an agent's default, not the user's choice
        del given["WANDB_DIR"]
    # wandb would create a folder "~"
    given |= {name: os.path.expanduser(given[name]) for name in DIR_VARIABLES if name in given}
    inside = {name: given.get(name, default) for name, default in defaults.items()}
    outside = {name: os.environ.get(name) for name in (*inside, *RUN_VARIABLES)}
    _set_environment(inside | dict.fromkeys(RUN_VARIABLES))
    try:
        yield
    finally:
        _set_environment(outside)


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
