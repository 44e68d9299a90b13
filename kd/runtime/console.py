"""What a person follows: a bar on a terminal, one plain line an epoch anywhere."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from kd.runtime.streams import null_stream

SEVERAL = int(os.environ.get("WORLD_SIZE") or 1) > 1  # processes of one run, of which the first speaks
RANK = int(os.environ.get("RANK") or 0) if SEVERAL else 0
PACE = 0.0  # seconds between two lines of a stage; a sweep sets it, so that its cells do not fill the screen


def slow_down(seconds: float) -> None:
    global PACE
    PACE = seconds


class Progress:
    """Stage, epoch, loss, validation accuracy, images a second, time left."""

    def __init__(self, stage: str, epochs: int, steps: int, epoch: int = 0, step: int = 0):
        """``epoch`` whole epochs and ``step`` steps were made before."""
        self.stage, self.epochs = stage, epochs
        self.epoch, self.images = epoch, 0
        self.before = epoch + max(0, min(step, steps - 1)) / max(1, steps)
        self.began = self.mark = self.said = time.perf_counter()
        hidden = RANK > 0 or None
        self.bar = tqdm(total=epochs * steps, desc=f"{stage:<8}", unit="step", leave=False, disable=hidden)
        self.bar.update(epoch * steps + step)

    def step(self, images: int) -> None:
        self.images += images
        self.bar.update()

    def rate(self) -> dict[str, float]:
        """Images a second and seconds since the last call: an epoch with its validation."""
        now = time.perf_counter()
        seconds = now - self.mark
        rate = {"images_per_s": self.images / seconds, "seconds": seconds}
        self.mark, self.images = now, 0
        return rate

    def on_epoch_end(self, found: str, images_per_s: float) -> None:
        """Say the line of an epoch; ``found`` is what there is to tell beside speed and time."""
        self.epoch += 1
        now = time.perf_counter()
        if now - self.said < PACE:
            return
        self.said = now
        left = (now - self.began) / (self.epoch - self.before) * (self.epochs - self.epoch)
        print_line(
            f"{self.stage:<8} epoch {self.epoch:>3}/{self.epochs}  {found}  "
            f"{images_per_s:.0f} images/s  {format_minutes(left)} left"
        )

    def close(self) -> None:
        self.bar.close()


def print_line(line: str) -> None:
    """Print a line for a person: above a progress bar if there is one, and at once."""
    if RANK == 0:
        try:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:  # nobody reads along, the terminal was closed, the log's disk is full: not our fault
            sys.stdout = null_stream()
            if not isinstance(error, BrokenPipeError):
                with suppress(OSError):
                    print(f"kd: nothing more can be said here, and the run goes on: {error}", file=sys.stderr)


def wait_for_turn(error: Exception) -> None:
    """Wait before an error is told, so that of several processes one tells it: torchrun ends all with the first.

    The first process speaks at once. Another lets it, and speaks if it is still there. Whoever merely lost the others
    (gloo and NCCL say so) leaves the word to the one that failed.
    """
    lost = isinstance(error, RuntimeError) and any(name in str(error).lower() for name in ("gloo", "nccl", "peer"))
    if SEVERAL:
        time.sleep(20 if lost else 5 if RANK else 0)


def display_path(path: Path) -> str:
    """``path`` as a command takes it: from the working folder when it lies below it, quoted where that is needed."""
    with suppress(OSError, ValueError):  # a working folder that was removed, or one that it does not lie below
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


def display_folder(text: str) -> Path:
    """A path as it is typed, its home written out where the shell did not."""
    return Path(os.path.expanduser(text))


def format_minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
