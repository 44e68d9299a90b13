"""The teacher's logits of every view, computed once per seed, and the teacher that reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.data.loader import Loader
from kd.data.pixels import copy_to_device
from kd.interfaces import LOGITS_ONLY, Batch, Outputs, Teacher
from kd.runtime.console import Progress, display_path, print_line
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.runtime.errors import first_line
from kd.runtime.timer import Timer
from kd.store.distributed import get_or_create_together
from kd.store.files import give_name, preallocate_npy, write_text
from kd.store.store import KEY_DIGITS, Store, digest
from kd.teachers.live import LiveTeacher

LOGITS_FILE = "logits.npy"  # float32 [epochs, V * N, K]: row view * N + index; epochs that are repeated are there once
HASHES_FILE = "epochs.sha256"  # beside a logit cache in progress: one line per epoch
AUTO_LIMIT_BYTES = 4 * 2**30  # bytes above which teacher.source=auto makes no logit cache


class CachedTeacher:
    """Looks up the logits of each view by (epoch, view, index): to the bit those of the live teacher.

    Args:
        folder: the output of ``fill_cache``: ``logits.npy``, float32 [epochs, V * N, K].
        images: N, of the data set.

    Raises:
        ValueError: the file is missing or damaged.
    """

    def __init__(self, folder: Path, device: torch.device, images: int):
        self.folder, self.device, self.images = folder, device, images
        try:
            self.logits = np.load(folder / LOGITS_FILE, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise self._refusal(f"is damaged ({first_line(error)})") from error
        self._epoch, self._rows = 0, None

    def __call__(self, batch: Batch) -> Outputs:
        if batch.epoch != self._epoch:
            self._epoch, self._rows = batch.epoch, self._open(batch.epoch)
        if isinstance(self._rows, Tensor):  # views without logits, if any, were found by ``check``: asking would wait
            return Outputs(self._rows[rows_of(batch, self.images)])
        logits = torch.from_numpy(self._rows[rows_of(batch, self.images).cpu().numpy()])
        if logits.isnan().any():
            raise self._refusal(f"has no logits for some views of epoch {batch.epoch}: it was filled for another order")
        return Outputs(logits.to(self.device))

    def _open(self, epoch: int) -> np.ndarray | Tensor:
        """Return the logits of an epoch, [V * N, K]: on an accelerator with room for them, else in the memory map."""
        repeated = (epoch - 1) % len(self.logits)
        rows = np.asarray(self.logits[repeated])  # a plain view, which is quicker to index than a memory map
        resident = copy_to_device(rows, self.device)
        return rows if resident is None else resident

    def check(self, live: LiveTeacher, loader: Loader, epochs: int) -> None:
        """Check that every view of ``epochs`` epochs has logits, and compare one batch with the live teacher.

        Another machine may round differently, but not more.

        Raises:
            ValueError: the logit cache belongs to another teacher, other data or other views, or is damaged.
        """
        shape = cache_shape(loader, epochs)
        if self.logits.shape != shape or self.logits.dtype != np.float32:
            actual = f"{self.logits.dtype} {list(self.logits.shape)}"
            raise self._refusal(
                f"holds {actual} and should hold float32 {list(shape)} (epochs, views of images, classes)"
            )
        for epoch, logits in enumerate(self.logits, start=1):
            shown = [view * self.images + positions for view, positions in enumerate(loader.shown_by_view(epoch))]
            bad = int((~np.isfinite(logits[np.concatenate(shown)])).any(-1).sum())
            if bad:
                raise self._refusal(
                    f"has no logits for {bad} views of epoch {epoch}: it is damaged, or was filled for another order"
                )
        batch = next(loader.epoch(1))
        expected, cached = live(batch).to_float32(frozenset()).logits, self(batch).logits
        error, scale = (expected - cached).abs().max().item(), expected.abs().max().item()
        if not error <= 0.05 * scale + 1e-3:
            raise self._refusal(f"does not match the teacher: logits differ by {error:.3g}, on a scale of {scale:.3g}")

    def _refusal(self, what: str) -> ValueError:
        folder = display_path(self.folder)
        return ValueError(f"the teacher's logit cache {what}. Delete {folder} and rerun, or set teacher.source=live.")


def teacher_factory(source: str, needs: frozenset[str], numbers: int) -> Callable[..., Teacher]:
    """Return a function that makes the student's teacher; it takes the arguments of ``open_cache``.

    Args:
        source: ``teacher.source``: live, cached, or auto (cached if the terms read only logits).
        needs: what the terms read.
        numbers: the size of the logit cache; if it is too large, auto uses the live teacher.

    Raises:
        ValueError: the source is unknown, or the terms read more than the logits of a cache.
    """
    if source not in ("auto", "live", "cached"):
        raise ValueError(f"teacher.source must be auto, live or cached, got {source!r}")
    if source == "cached" and not needs <= LOGITS_ONLY:
        raise ValueError(
            f"teacher.source=cached holds logits, and this method reads {', '.join(sorted(needs - LOGITS_ONLY))} too: "
            "set teacher.source=live or auto"
        )
    if source == "live" or not needs <= LOGITS_ONLY or (source == "auto" and 4 * numbers > AUTO_LIMIT_BYTES):
        return lambda store, key, live, *_: live
    return open_cache


def open_cache(
    store: Store,
    key: dict[str, Any],
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    clock: Timer,
    world: World = SINGLE_PROCESS,
) -> CachedTeacher:
    """Reuse or fill the logit cache of ``key``, and check it against the live teacher."""
    with clock("logit_cache"):
        name = digest(key)[:KEY_DIGITS]
        unfinished = store.partial_dir("logits", name)
        fill = partial(fill_cache, live=live, loader=loader, epochs=epochs, world=world, unfinished=unfinished)
        folder = get_or_create_together(world, store, "logits", name, fill)
        cache = CachedTeacher(folder, live.device.device, len(loader.targets))
        cache.check(live, loader, epochs)
    return cache


def fill_cache(
    folder: Path,
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    world: World = SINGLE_PROCESS,
    unfinished: Path | None = None,
) -> None:
    """Write the logits of every view of ``epochs`` epochs, computed on the same batches as in training.

    (Kernels round differently for other batches; the same batches give the same bits.) Rows that are in no batch,
    such as those of validation and test, are NaN. If a view is drawn more than once, its last logits are kept. Each of
    several processes computes whole epochs, and the main process writes.

    Args:
        unfinished: the folder in which the cache grows, on the same file system: after a kill the next process resumes
            after the epochs that are complete there.
    """
    shape, images = cache_shape(loader, epochs), len(loader.targets)
    epochs = shape[0]
    work, done = unfinished or folder, 0
    if world.is_main:
        work.mkdir(parents=True, exist_ok=True)
        done = epochs_in(work, shape)
        logits = (
            np.load(work / LOGITS_FILE, mmap_mode="r+")
            if done
            else preallocate_npy(work / LOGITS_FILE, shape, np.float32)
        )
    done = world.broadcast(done)
    if done:
        print_line(f"logit cache: resuming from epoch {done + 1}")
    progress = Progress("logit_cache", epochs, loader.steps // world.size, done)
    for first in range(done, epochs, world.size):
        own = None
        if first + world.rank < epochs:
            own = np.full(shape[1:], np.nan, np.float32)
            for batch in loader.epoch(first + world.rank + 1):
                own[rows_of(batch, images).cpu().numpy()] = live(batch).to_float32(frozenset()).logits.cpu().numpy()
                progress.step(len(batch.index))
        finished = [rows for rows in world.gather(own) if rows is not None]
        images_per_s = len(finished) * progress.rate()["images_per_s"]
        for number, rows in enumerate(finished, start=first):
            logits[number] = rows
            with (work / HASHES_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{hashlib.sha256(rows).hexdigest()}\n")
            progress.on_epoch_end("caching the teacher's logits", images_per_s)
    progress.close()
    if world.is_main:
        logits.flush()
        if work != folder:
            give_name(work / LOGITS_FILE, folder / LOGITS_FILE)


def cache_shape(loader: Loader, epochs: int) -> tuple[int, int, int]:
    """Return the shape of a logit cache: epochs with views of their own, views x images of the data set, classes."""
    return min(epochs, loader.view_epochs or epochs), loader.views * len(loader.targets), len(loader.dataset.classes)


def rows_of(batch: Batch, images: int) -> Tensor:
    """Return the rows of a logit cache that a batch reads, int64 [B], on its device."""
    if batch.views == 1:
        return batch.index
    view = torch.arange(batch.views, device=batch.index.device).repeat_interleave(len(batch.index) // batch.views)
    return view * images + batch.index


def epochs_in(folder: Path, shape: tuple[int, ...]) -> int:
    """Return the number of complete epochs of a logit cache in progress, of ``shape``; drop the hashes after them."""
    cache, hashes = folder / LOGITS_FILE, folder / HASHES_FILE
    try:
        logits = np.load(cache, mmap_mode="r")
        lines = hashes.read_text(encoding="utf-8").splitlines()
    except (OSError, EOFError, ValueError):
        lines = []
    done = 0
    if lines and logits.shape == shape:
        for rows, line in zip(logits, lines, strict=False):
            if hashlib.sha256(rows).hexdigest() != line:
                break
            done += 1
    write_text(hashes, "".join(f"{line}\n" for line in lines[:done]))
    return done
