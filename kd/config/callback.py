"""The callback that Hydra calls before it makes a folder for a single run; and how a callback ends the command."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.utils import get_method
from omegaconf import DictConfig

from kd.config.command_line import expand_homes
from kd.config.errors import explain_error, restore_hydra_errors, show_tracebacks


class BeforeRun(Callback):
    """``hydra.callbacks.run``: calls ``check`` with the composed config, including Hydra's part.

    Args:
        check: dotted name of a function that raises an error if the config cannot become a run.
    """

    def __init__(self, check: str):
        self.check = check

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        restore_hydra_errors()
        with refusing():
            get_method(self.check)(config)
            expand_homes(config)


@contextmanager
def refusing(prefix: str = "") -> Iterator[None]:
    """End the command if the block raises an error. Hydra would turn an error of a callback into a warning."""
    try:
        yield
    except Exception as error:
        from kd.runtime.console import wait_for_turn

        wait_for_turn(error)
        if show_tracebacks() or not isinstance(error, ValueError | OSError | HydraException):
            traceback.print_exc()
        message = explain_error(error, []) if isinstance(error, HydraException) else error
        raise SystemExit(f"kd: {prefix}{message}") from error
