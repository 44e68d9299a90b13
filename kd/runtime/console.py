"""Console output: a progress bar on a terminal, and one plain line per epoch anywhere."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from kd.runtime.streams import null_stream

IS_DISTRIBUTED = int(os.environ.get("WORLD_SIZE") or 1) > 1  # one run in several processes: the main one prints
RANK = int(os.environ.get("RANK") or 0) if IS_DISTRIBUTED else 0
SECONDS_BETWEEN_LINES = (
    0.0  # seconds between two epoch lines; a sweep sets it, so that its cells do not fill the screen
)


def slow_down(seconds: float) -> None:
    """Print at most one epoch line per ``seconds``."""
    global SECONDS_BETWEEN_LINES
    SECONDS_BETWEEN_LINES = seconds


class Progress:
    """The progress of one role: epoch, loss, validation accuracy, images per second, time left."""

    def __init__(self, stage: str, epochs: int, steps: int, epoch: int = 0, step: int = 0, hidden: bool = False):
        """``epoch`` whole epochs and ``step`` steps are already done; ``hidden`` shows nothing."""
        self.stage, self.epochs, self.hidden = stage, epochs, hidden
        self.epoch, self.images = epoch, 0
        self.before = epoch + max(0, min(step, steps - 1)) / max(1, steps)
        self.began = self.mark = self.printed = time.perf_counter()
        disable = hidden or RANK > 0 or None
        self.bar = tqdm(total=epochs * steps, desc=f"{stage:<8}", unit="step", leave=False, disable=disable)
        self.bar.update(epoch * steps + step)

    def step(self, images: int) -> None:
        self.images += images
        self.bar.update()

    def rate(self) -> dict[str, float]:
        """Return images per second and seconds since the last call: an epoch with its validation."""
        now = time.perf_counter()
        seconds = now - self.mark
        rate = {"images_per_s": self.images / seconds, "seconds": seconds}
        self.mark, self.images = now, 0
        return rate

    def on_epoch_end(self, scores: str, images_per_s: float) -> None:
        """Print the line of an epoch: ``scores``, speed and time left."""
        self.epoch += 1
        now = time.perf_counter()
        if self.hidden or now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        left = (now - self.began) / (self.epoch - self.before) * (self.epochs - self.epoch)
        print_line(
            f"{self.stage:<8} epoch {self.epoch:>3}/{self.epochs}  {scores}  "
            f"{images_per_s:.0f} images/s  {format_minutes(left)} left"
        )

    def close(self) -> None:
        self.bar.close()


def print_line(line: str) -> None:
    """Print a line at once, above a progress bar if there is one; only in the main process."""
    if RANK == 0:
        try:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:  # the reader is gone, the terminal was closed, the log's disk is full
            sys.stdout = null_stream()
            if not isinstance(error, BrokenPipeError):
                with suppress(OSError):
                    print(f"kd: standard output failed ({error}); the run continues without it", file=sys.stderr)


def wait_for_turn(error: Exception) -> None:
    """Wait before printing an error, so that one process of several prints it: torchrun ends all after the first exit.

    The main process prints at once. Another waits, and prints if it is still running. A process that merely lost its
    peers (an error of gloo or NCCL) waits longest, because another one failed.
    """
    lost = isinstance(error, RuntimeError) and any(name in str(error).lower() for name in ("gloo", "nccl", "peer"))
    if IS_DISTRIBUTED:
        time.sleep(20 if lost else 5 if RANK else 0)


def display_path(path: Path) -> str:
    """Return ``path`` as a command takes it: relative to the working folder if it is inside, quoted if needed."""
    with suppress(OSError, ValueError):  # the working folder was removed, or the path is outside
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


def display_folder(text: str) -> Path:
    """Return a typed path with ``~`` expanded."""
    return Path(os.path.expanduser(text))


def format_minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
