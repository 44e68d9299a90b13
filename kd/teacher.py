"""A teacher that is asked live, and one whose answers to every view were written down before."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kd.clock import Clock
from kd.data.loader import Loader
from kd.interfaces import COMMON, LOGITS_ONLY, Batch, Outputs, Teacher, observe
from kd.machine import Machine
from kd.parallel import ALONE, Ranks
from kd.progress import Progress
from kd.store import SHORT, Store, digest

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
    """

    def __init__(self, folder: Path, device: torch.device):
        self.folder, self.device = folder, device
        self.logits = np.load(folder / "logits.npy", mmap_mode="r")

    def __call__(self, batch: Batch) -> Outputs:
        logits = torch.from_numpy(self.logits[batch.epoch - 1, batch.index.numpy()])
        if logits.isnan().any():
            raise ValueError(
                f"the teacher's bank {self.folder.name} has no answer for some views of epoch {batch.epoch}: "
                "it was filled for another order. Remove that folder, or say teacher.source=live."
            )
        return Outputs(logits.to(self.device))

    def check(self, live: LiveTeacher, loader: Loader) -> None:
        """Ask the live teacher about one batch and compare; another machine may round differently, no more.

        Raises:
            ValueError: the bank belongs to another teacher, other data or other views.
        """
        batch = next(loader.epoch(1))
        said, banked = live(batch).full(frozenset()).logits, self(batch).logits
        apart, scale = (said - banked).abs().max().item(), said.abs().max().item()
        if not apart <= 0.05 * scale + 1e-3:
            raise ValueError(
                f"the teacher's bank {self.folder.name} does not match the teacher: logits differ by {apart:.3g}, "
                f"on a scale of {scale:.3g}. Remove that folder, or say teacher.source=live."
            )


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
        fill = partial(fill_bank, live=live, loader=loader, epochs=epochs, ranks=ranks)
        folder = ranks.obtain(store, "banks", digest(key)[:SHORT], fill)
        bank = BankedTeacher(folder, live.machine.device)
        bank.check(live, loader)
    return bank


def fill_bank(folder: Path, live: LiveTeacher, loader: Loader, epochs: int, ranks: Ranks = ALONE) -> None:
    """Write down the logits of every view of ``epochs`` epochs, walking the very batches that training will see.

    (Kernels round differently with the batch; the same batches give the same bits.) Rows that no batch asks for, those
    of validation and test among them, are NaN. Of several processes each walks whole epochs, and the first writes.
    """
    shape = (epochs, len(loader.pictures.targets), len(loader.pictures.classes))
    if ranks.first:
        logits = np.lib.format.open_memmap(folder / "logits.npy", "w+", np.float32, shape)
    progress = Progress("bank", epochs, loader.steps // ranks.size)
    for done in range(0, epochs, ranks.size):
        answers = None
        if done + ranks.rank < epochs:
            answers = np.full(shape[1:], np.nan, np.float32)
            for batch in loader.epoch(done + ranks.rank + 1):
                answers[batch.index.numpy()] = live(batch).full(frozenset()).logits.cpu().numpy()
                progress.step(len(batch.index))
        found = [rows for rows in ranks.collect(answers) if rows is not None]
        images_per_s = len(found) * progress.rate()["images_per_s"]
        for number, rows in enumerate(found, start=done):
            logits[number] = rows
            progress.epoch_ends("the teacher answers every view", images_per_s)
    progress.close()
    if ranks.first:
        logits.flush()
