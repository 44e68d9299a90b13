"""``metrics.jsonl``: a run that is started again keeps the lines it has written before, and appends after them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class MetricsLog:
    """A file that grows by whole lines, over every start of its run.

    A run that is started again writes all its lines again. A line that is there already stays as it is. The first line
    that differs, or that a killed process left incomplete, is cut off with all that follows. So a rerun on a full disk
    deletes nothing. Writes are unbuffered.
    """

    def __init__(self, path: Path):
        self.path = path
        self._old = path.read_bytes() if path.exists() else b""
        self._at = 0  # bytes of the file that this start of the run has confirmed or written
        self._file = path.open("ab", buffering=0)

    def write(self, line: str) -> None:
        """Append ``line`` unless it is there already.

        Raises:
            OSError: with the path; the lines before it stay.
        """
        data = f"{line}\n".encode()
        if not self._old.startswith(data, self._at):
            self._cut()
            self._append(data)
        self._at += len(data)

    def close(self, complete: bool) -> None:
        """Close the file. ``complete``: the run has ended, so lines that an earlier start wrote after these are cut."""
        with self._file:
            if complete:
                self._cut()

    def _cut(self) -> None:
        if self._at < len(self._old):
            self._file.truncate(self._at)
        self._old = b""

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._at)  # no half line
            raise OSError(error.errno, error.strerror, str(self.path)) from error
