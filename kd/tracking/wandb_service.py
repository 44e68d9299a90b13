"""wandb's service process: how a run asks for it, and how it is taken down once it has died."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

FLUSH_INTERVAL = 0.3  # seconds between writes to disk: a kill loses what came after the last; wandb's default is 15


def init_run(mode: str, arguments: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Return the run that ``wandb.init`` makes, without questions on the terminal and without data of this machine.

    Raises:
        wandb.errors.UsageError: ``mode`` is "online" and there is no API key. Other errors are wandb's.
    """
    import wandb  # takes a second

    _disable_error_reports()
    logging.raiseExceptions = False  # on a full disk every line of wandb's debug.log would print a traceback
    wandb.setup(wandb.Settings(mode=mode, silent=True))  # without a mode here WANDB_MODE would override the config
    # without this wandb.init would ask for a key on a terminal
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise wandb.errors.UsageError("no API key (`wandb login`, or WANDB_API_KEY)")
    common = {
        "silent": True,
        "console": "off",
        "finish_timeout_raises": True,
        "program": "kd.run",  # default: the path of the program
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "host": "",  # default: the name of this machine
        "x_transaction_log_flush_interval": FLUSH_INTERVAL,
    }
    return wandb.init(
        **arguments,
        mode=mode,
        dir=os.environ["WANDB_DIR"],
        resume="allow",
        reinit="create_new",  # the default returns any unfinished run of this process
        settings=wandb.Settings(**common, **settings),
    )


def teardown() -> None:
    """Forget the service process, so that the next run starts another."""
    import wandb

    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # if the service process was killed, wandb exits with its exit code
        log.debug("wandb.teardown: %s", error)
    os.environ.pop("WANDB_SERVICE", None)  # the address of the dead service


def server_answers(base_url: str, timeout: float) -> bool:
    """Ask the server for the user, as wandb does before it accepts a table, but without waiting 19 s per table."""
    import wandb

    try:
        wandb.Api({"base_url": base_url}, timeout=max(1, round(timeout)))
    except Exception as error:
        log.debug("wandb.Api: %s", error)
        return False
    return True


def _disable_error_reports() -> None:
    """If its service process does not start, wandb 0.31 reports that error and deadlocks: the report needs the lock
    that the starting thread holds."""
    with suppress(ImportError, AttributeError):
        from wandb.analytics.opentelemetry.opentelemetry_proxy import disable

        disable()
