"""``metrics.jsonl``: a run that is started again finds its own lines there, and goes on behind them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class MetricsLog:
    """A file that grows by whole lines, over all the lives of its run.

    A run that is started again writes all its lines again. One that stands there already is left alone; the first that
    differs, or was torn when the process died, is cut off with all that follows. So a rerun on a full disk takes
    nothing away, and a line is on its way to the disk as soon as it is written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._old = path.read_bytes() if path.exists() else b""
        self._at = 0  # bytes that this run stands for
        self._file = path.open("ab", buffering=0)

    def write(self, line: str) -> None:
        """Append ``line``, or find it.

        Raises:
            OSError: with the path; the lines before it stand.
        """
        data = f"{line}\n".encode()
        if not self._old.startswith(data, self._at):
            self._cut()
            self._append(data)
        self._at += len(data)

    def close(self, complete: bool) -> None:
        """``complete``: the run came to its end, so that what an earlier one wrote beyond is cut off."""
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
