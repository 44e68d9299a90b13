"""A claim on a W&B run that several jobs could log: one job logs it, the others leave it alone."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from kd.store.locks import file_lock
from kd.store.store import digest
from kd.tracking.guard import Guard, error_line

FOLDER = "logged"  # below outputs/wandb: a lock, a marker and a list of segments per W&B run


class Claim:
    """A lock while a job logs the run, and a marker once the run is complete.

    Args:
        root: the outputs folder.
        entity, project, run_id: of the W&B run. A run is complete per project: another project gets its own copy.
    """

    def __init__(self, root: Path, entity: str | None, project: str, run_id: str, guard: Guard):
        self._folder = root / "wandb" / FOLDER
        self._name = "-".join(filter(None, (entity, project, run_id)))
        if len(os.fsencode(self._name)) > 200:  # a project has up to 128 characters of up to 4 bytes each
            self._name = digest({FOLDER: self._name})
        self._guard = guard
        self._lock: FileLock | None = None

    def path(self, ending: str = "") -> Path:
        """The marker's path, or that of the file beside it with this ``ending``."""
        self._folder.mkdir(exist_ok=True)
        return self._folder / (self._name + ending)

    def acquire(self, mode: str) -> bool:
        """Take the run over; False if it is complete for this ``mode`` already, or if another job is logging it."""
        locked, marker = self.lock(), self.path()
        # a run that the server has is also complete for an offline job
        complete = marker.exists() and marker.read_text(encoding="utf-8") in ("online", mode)
        if complete:
            self.release()
        return locked is not False and not complete

    def lock(self) -> bool | None:
        """Keep other jobs out until ``release``: False if another job holds the lock, None where locks do not work."""
        if self._lock is None:
            lock = file_lock(self.path(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            except (OSError, NotImplementedError) as error:  # a file system without locks
                text = f"W&B runs cannot be locked here, so two jobs may log the same run: {error_line(error)}"
                self._guard.warn(text, "locks")
                return None
            self._lock = lock
        return True

    def mark_done(self, mode: str) -> None:
        """Record that the run is complete, for "online" or "offline"."""
        self.path().write_text(mode, encoding="utf-8")

    def release(self) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None
