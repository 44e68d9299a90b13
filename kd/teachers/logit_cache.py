"""The teacher's logits of every view, computed once per seed, and the teacher that reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd.data.loader import Loader
from kd.interfaces import LOGITS_ONLY, Batch, Outputs, Teacher
from kd.runtime.console import Progress, display_path, print_line
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.runtime.errors import first_line
from kd.runtime.timer import Timer
from kd.store.distributed import get_or_create_together
from kd.store.files import preallocate_npy, write_text
from kd.store.store import KEY_DIGITS, Store, digest
from kd.teachers.live import LiveTeacher

CACHE_VERSION = "logits.npy"  # float32 [epochs, N, K]
HASHES = "epochs.sha256"  # beside a logit cache that grows: a line for each of its epochs
LARGE = 4 * 2**30  # bytes of a logit cache that nobody asked for


class CachedTeacher:
    """Looks up the logits of each view by (epoch, index). To the bit what the live teacher would say.

    Args:
        folder: what ``fill_bank`` wrote: ``logits.npy``, float32 [epochs, N, K].

    Raises:
        ValueError: no such file, or one that is damaged.
    """

    def __init__(self, folder: Path, device: torch.device):
        self.folder, self.device = folder, device
        try:
            self.logits = np.load(folder / CACHE_VERSION, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise self._refusal(f"is damaged ({first_line(error)})") from error

    def __call__(self, batch: Batch) -> Outputs:
        logits = torch.from_numpy(self.logits[batch.epoch - 1, batch.index.numpy()])
        if logits.isnan().any():
            raise self._refusal(f"has no answer for some views of epoch {batch.epoch}: it was filled for another order")
        return Outputs(logits.to(self.device))

    def check(self, live: LiveTeacher, loader: Loader, epochs: int) -> None:
        """See that every view of ``epochs`` epochs has its answer, and ask the live teacher about one batch.

        Another machine may round differently, no more.

        Raises:
            ValueError: the logit cache belongs to another teacher, other data or other views, or is damaged.
        """
        shape = (epochs, len(loader.dataset.targets), len(loader.dataset.classes))
        if self.logits.shape != shape or self.logits.dtype != np.float32:
            found = f"{self.logits.dtype} {list(self.logits.shape)}"
            raise self._refusal(f"holds {found} and should hold float32 {list(shape)} (epochs, images, classes)")
        for epoch, answers in enumerate(self.logits, start=1):
            bad = int((~np.isfinite(answers[loader.order(epoch)])).any(-1).sum())
            if bad:
                raise self._refusal(
                    f"has no answer for {bad} views of epoch {epoch}: it is damaged, or was filled for another order"
                )
        batch = next(loader.epoch(1))
        said, cached = live(batch).to_float32(frozenset()).logits, self(batch).logits
        apart, scale = (said - cached).abs().max().item(), said.abs().max().item()
        if not apart <= 0.05 * scale + 1e-3:
            raise self._refusal(f"does not match the teacher: logits differ by {apart:.3g}, on a scale of {scale:.3g}")

    def _refusal(self, what: str) -> ValueError:
        folder = display_path(self.folder)
        return ValueError(
            f"the teacher's logit cache {what}. Remove {folder} and run again, or say teacher.source=live."
        )


def teacher_factory(source: str, needs: frozenset[str], answers: int) -> Callable[..., Teacher]:
    """Return what makes the teacher that a student asks, called with the arguments of ``open_bank``.

    Args:
        source: ``teacher.source``: live, cached, or auto (cached where the terms read nothing but logits).
        needs: what the terms read.
        answers: numbers that a logit cache would hold; auto asks live where they are too many.

    Raises:
        ValueError: an unknown source, or a logit cache for terms that read more than logits.
    """
    if source not in ("auto", "live", "cached"):
        raise ValueError(f"teacher.source must be auto, live or cached, got {source!r}")
    if source == "cached" and not needs <= LOGITS_ONLY:
        raise ValueError(
            f"teacher.source=cached holds logits, and this method reads {', '.join(sorted(needs - LOGITS_ONLY))} too: "
            "say teacher.source=live or auto"
        )
    if source == "live" or not needs <= LOGITS_ONLY or (source == "auto" and 4 * answers > LARGE):
        return lambda store, key, live, *_: live
    return open_cache


def open_cache(
    store: Store,
    key: dict[str, Any],
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    clock: Timer,
    ranks: World = SINGLE_PROCESS,
) -> CachedTeacher:
    """Find or fill the logit cache of ``key``, and check it against the live teacher."""
    with clock("logit_cache"):
        name = digest(key)[:KEY_DIGITS]
        unfinished = store.partial_dir("logits", name)
        fill = partial(fill_cache, live=live, loader=loader, epochs=epochs, ranks=ranks, unfinished=unfinished)
        folder = get_or_create_together(ranks, store, "logits", name, fill)
        cache = CachedTeacher(folder, live.machine.device)
        cache.check(live, loader, epochs)
    return cache


def fill_cache(
    folder: Path,
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    ranks: World = SINGLE_PROCESS,
    unfinished: Path | None = None,
) -> None:
    """Write down the logits of every view of ``epochs`` epochs, walking the very batches that training will see.

    (Kernels round differently with the batch; the same batches give the same bits.) Rows that no batch asks for, those
    of validation and test among them, are NaN; of a view that is drawn more than once, the last answer stays. Of
    several processes each walks whole epochs, and the first writes.

    Args:
        unfinished: where the logit cache grows, on the same file system: whoever comes after a kill goes on behind the epochs
            that are whole there.
    """
    shape = (epochs, len(loader.dataset.targets), len(loader.dataset.classes))
    place, done = unfinished or folder, 0
    if ranks.is_main:
        place.mkdir(parents=True, exist_ok=True)
        done = epochs_in(place, shape)
        logits = (
            np.load(place / CACHE_VERSION, mmap_mode="r+")
            if done
            else preallocate_npy(place / CACHE_VERSION, shape, np.float32)
        )
    done = ranks.broadcast(done)
    if done:
        print_line(f"the teacher goes on from epoch {done + 1} of its logit cache")
    progress = Progress("logit_cache", epochs, loader.steps // ranks.size, done)
    for first in range(done, epochs, ranks.size):
        answers = None
        if first + ranks.rank < epochs:
            answers = np.full(shape[1:], np.nan, np.float32)
            for batch in loader.epoch(first + ranks.rank + 1):
                answers[batch.index.numpy()] = live(batch).to_float32(frozenset()).logits.cpu().numpy()
                progress.step(len(batch.index))
        found = [rows for rows in ranks.gather(answers) if rows is not None]
        images_per_s = len(found) * progress.rate()["images_per_s"]
        for number, rows in enumerate(found, start=first):
            logits[number] = rows
            with (place / HASHES).open("a", encoding="utf-8") as file:
                file.write(f"{hashlib.sha256(rows).hexdigest()}\n")
            progress.on_epoch_end("the teacher answers every view", images_per_s)
    progress.close()
    if ranks.is_main:
        logits.flush()
        if place != folder:
            _also_at(place / CACHE_VERSION, folder / CACHE_VERSION)


def _also_at(path: Path, new: Path) -> None:
    """Give a file a second name: whoever is killed before the folder is published finds it at the first one."""
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        os.replace(path, new)


def epochs_in(folder: Path, shape: tuple[int, ...]) -> int:
    """How many epochs of a logit cache of ``shape`` are whole in a folder where it grows; what follows them is forgotten."""
    cache, hashes = folder / CACHE_VERSION, folder / HASHES
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
