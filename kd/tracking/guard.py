"""A guard between the run and W&B: a failure of wandb becomes one warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kd.runtime.errors import first_line
from kd.tracking.redact import without_secrets

log = logging.getLogger(__name__)


class Guard:
    """Catches what wandb raises and warns once per cause. The W&B runs of one process share one guard."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    @contextmanager
    def catch(self, action: str) -> Iterator[None]:
        """Turn an exception inside the block into a warning that names the ``action``."""
        try:
            yield
        except Exception as error:
            self.warn_failure(action, error)

    def warn_failure(self, action: str, error: Exception) -> None:
        # a dead service process raises a different ConnectionError at every call
        cause = "connection" if isinstance(error, ConnectionError) else error_line(error)
        self.warn(f"W&B failed while {action} (the run itself continues): {error_line(error)}", cause)

    def warn(self, text: str, cause: str = "") -> None:
        """Log a warning, unless one with this ``cause`` (by default its text) was logged before."""
        if (cause or text) not in self._warned:
            log.warning("%s", without_secrets(text))
        self._warned.add(cause or text)


def error_line(error: BaseException) -> str:
    """Type and first line of an error without secrets, at most 300 characters."""
    return without_secrets(f"{type(error).__name__}: {first_line(error)}")[:300]
