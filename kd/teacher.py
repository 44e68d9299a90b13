"""A teacher that is asked live, and one whose answers to every view were written down before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kd.clock import Clock
from kd.data.loader import Loader
from kd.interfaces import COMMON, LOGITS_ONLY, Batch, Outputs, Teacher, first_line, observe
from kd.machine import Machine
from kd.parallel import ALONE, Ranks
from kd.progress import Progress, here, say
from kd.store import SHORT, Store, allocated, digest, write_text

BANK = "logits.npy"  # float32 [epochs, N, K]
HASHES = "epochs.sha256"  # beside a bank that grows: a line for each of its epochs
LARGE = 4 * 2**30  # bytes of a bank that nobody asked for


class LiveTeacher:
    """Asks the network: in eval mode and without gradients, always, in the precision of training.

    Args:
        show: what it shows beside its logits, see ``observe``.
    """

    def __init__(self, network: nn.Module, machine: Machine, show: Set[str] = COMMON):
        self.network = machine.prepare(network).eval().requires_grad_(False)
        self.machine, self.show = machine, show

    def __call__(self, batch: Batch) -> Outputs:
        with torch.no_grad(), self.machine.autocast():
            return observe(self.network.eval(), batch.image, self.show)


class BankedTeacher:
    """Looks up the logits of each view by (epoch, index). To the bit what the live teacher would say.

    Args:
        folder: what ``fill_bank`` wrote: ``logits.npy``, float32 [epochs, N, K].

    Raises:
        ValueError: no such file, or one that is damaged.
    """

    def __init__(self, folder: Path, device: torch.device):
        self.folder, self.device = folder, device
        try:
            self.logits = np.load(folder / BANK, mmap_mode="r")
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
            ValueError: the bank belongs to another teacher, other data or other views, or is damaged.
        """
        shape = (epochs, len(loader.pictures.targets), len(loader.pictures.classes))
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
        said, banked = live(batch).full(frozenset()).logits, self(batch).logits
        apart, scale = (said - banked).abs().max().item(), said.abs().max().item()
        if not apart <= 0.05 * scale + 1e-3:
            raise self._refusal(f"does not match the teacher: logits differ by {apart:.3g}, on a scale of {scale:.3g}")

    def _refusal(self, what: str) -> ValueError:
        folder = here(self.folder)
        return ValueError(f"the teacher's bank {what}. Remove {folder} and run again, or say teacher.source=live.")


def choose_source(source: str, needs: frozenset[str], answers: int) -> Callable[..., Teacher]:
    """Return what makes the teacher that a student asks, called with the arguments of ``open_bank``.

    Args:
        source: ``teacher.source``: live, bank, or auto (a bank where the terms read nothing but logits).
        needs: what the terms read.
        answers: numbers that a bank would hold; auto asks live where they are too many.

    Raises:
        ValueError: an unknown source, or a bank for terms that read more than logits.
    """
    if source not in ("auto", "live", "bank"):
        raise ValueError(f"teacher.source must be auto, live or bank, got {source!r}")
    if source == "bank" and not needs <= LOGITS_ONLY:
        raise ValueError(
            f"teacher.source=bank holds logits, and this method reads {', '.join(sorted(needs - LOGITS_ONLY))} too: "
            "say teacher.source=live or auto"
        )
    if source == "live" or not needs <= LOGITS_ONLY or (source == "auto" and 4 * answers > LARGE):
        return lambda store, key, live, *_: live
    return open_bank


def open_bank(
    store: Store,
    key: dict[str, Any],
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    clock: Clock,
    ranks: Ranks = ALONE,
) -> BankedTeacher:
    """Find or fill the bank of ``key``, and check it against the live teacher."""
    with clock("bank"):
        name = digest(key)[:SHORT]
        unfinished = store.unfinished("banks", name)
        fill = partial(fill_bank, live=live, loader=loader, epochs=epochs, ranks=ranks, unfinished=unfinished)
        folder = ranks.obtain(store, "banks", name, fill)
        bank = BankedTeacher(folder, live.machine.device)
        bank.check(live, loader, epochs)
    return bank


def fill_bank(
    folder: Path,
    live: LiveTeacher,
    loader: Loader,
    epochs: int,
    ranks: Ranks = ALONE,
    unfinished: Path | None = None,
) -> None:
    """Write down the logits of every view of ``epochs`` epochs, walking the very batches that training will see.

    (Kernels round differently with the batch; the same batches give the same bits.) Rows that no batch asks for, those
    of validation and test among them, are NaN; of a view that is drawn more than once, the last answer stays. Of
    several processes each walks whole epochs, and the first writes.

    Args:
        unfinished: where the bank grows, on the same file system: whoever comes after a kill goes on behind the epochs
            that are whole there.
    """
    shape = (epochs, len(loader.pictures.targets), len(loader.pictures.classes))
    place, done = unfinished or folder, 0
    if ranks.first:
        place.mkdir(parents=True, exist_ok=True)
        done = epochs_in(place, shape)
        logits = np.load(place / BANK, mmap_mode="r+") if done else allocated(place / BANK, shape, np.float32)
    done = ranks.tell(done)
    if done:
        say(f"the teacher goes on from epoch {done + 1} of its bank")
    progress = Progress("bank", epochs, loader.steps // ranks.size, done)
    for first in range(done, epochs, ranks.size):
        answers = None
        if first + ranks.rank < epochs:
            answers = np.full(shape[1:], np.nan, np.float32)
            for batch in loader.epoch(first + ranks.rank + 1):
                answers[batch.index.numpy()] = live(batch).full(frozenset()).logits.cpu().numpy()
                progress.step(len(batch.index))
        found = [rows for rows in ranks.collect(answers) if rows is not None]
        images_per_s = len(found) * progress.rate()["images_per_s"]
        for number, rows in enumerate(found, start=first):
            logits[number] = rows
            with (place / HASHES).open("a", encoding="utf-8") as file:
                file.write(f"{hashlib.sha256(rows).hexdigest()}\n")
            progress.epoch_ends("the teacher answers every view", images_per_s)
    progress.close()
    if ranks.first:
        logits.flush()
        if place != folder:
            _also_at(place / BANK, folder / BANK)


def _also_at(path: Path, new: Path) -> None:
    """Give a file a second name: whoever is killed before the folder is published finds it at the first one."""
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        os.replace(path, new)


def epochs_in(folder: Path, shape: tuple[int, ...]) -> int:
    """How many epochs of a bank of ``shape`` are whole in a folder where it grows; what follows them is forgotten."""
    bank, hashes = folder / BANK, folder / HASHES
    try:
        logits = np.load(bank, mmap_mode="r")
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
