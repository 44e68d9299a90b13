"""Batches from a decoded data set: no worker processes, no decoding, and all randomness comes from the seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from kd.data.augment import mixture
from kd.data.dataset import ImageDataset
from kd.interfaces import Batch
from kd.runtime.user_warnings import warn_user

EVAL_BATCH = 128  # images of a batch in evaluation
BALANCES = ("none", "sample", "weight")
RESIDENT = 8 * 2**30  # bytes: a data set up to this size stays on the accelerator during a run


class Loader:
    """Yield batches of one data set on one device.

    Args:
        batch_size: images of a training batch. An epoch leaves out an incomplete last batch (each epoch leaves out
            other images), unless it is the only one.
        seed: determines order and views, together with the epoch.
        balance: how training treats rare classes. "sample" draws all classes equally often: an image of a rare class
            appears several times an epoch (in the same view), and some images of a common class do not appear.
            "weight" adds class weights to every batch, see ``class_weights``.
        mixup: probability that another training image is mixed into a training view.
        grad_accum_steps: number of micro-batches of a batch, computed one after another if a batch does not fit into
            memory. Their sizes differ by at most one image, see ``sizes``.

    Raises:
        ValueError: for a batch or a micro-batch of fewer than 2 images, or an unknown balance.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        device: torch.device,
        mixup: float = 0.0,
        grad_accum_steps: int = 1,
        balance: str = "none",
    ):
        if balance not in BALANCES:
            raise ValueError(f"data.balance must be one of {', '.join(BALANCES)}, got {balance!r}")
        if batch_size < 2:
            raise ValueError(
                f"train.batch_size must be at least 2 (batch norm needs more than one image), got {batch_size}"
            )
        if len(dataset.train) < 2:
            raise ValueError(
                f"training needs at least 2 images (batch norm needs more than one), got {len(dataset.train)}"
            )
        if batch_size > len(dataset.train):
            warn_user(
                f"train.batch_size={batch_size} exceeds the {len(dataset.train)} training images, "
                "so one batch holds all of them"
            )
        self.batch_size = min(batch_size, len(dataset.train))
        if not 1 <= grad_accum_steps <= self.batch_size // 2:
            raise ValueError(
                f"train.grad_accum_steps must lie between 1 and {self.batch_size // 2}, so that each micro-batch of a "
                f"batch of {self.batch_size} has at least 2 images (batch norm needs more than one); "
                f"got {grad_accum_steps}"
            )
        self.dataset, self.seed, self.device = dataset, seed, device
        self.mixup, self.grad_accum_steps, self.balance = mixup, grad_accum_steps, balance
        self._targets = torch.from_numpy(dataset.targets)
        self._weights: Tensor | None = None
        if balance == "weight":
            weights = class_weights(dataset.targets[dataset.train], len(dataset.classes))
            self._weights = torch.from_numpy(weights).float().to(device)
        self._resident: Tensor | None = None
        if device.type != "cpu" and dataset.images.nbytes <= RESIDENT:
            self._resident = torch.from_numpy(np.array(dataset.images)).to(device)

    def with_seed(self, seed: int, mixup: float) -> Loader:
        """Return a loader with another order and other views that shares the images on the device."""
        other = copy.copy(self)
        other.seed, other.mixup = seed, mixup
        return other

    @property
    def steps(self) -> int:
        """Training batches of an epoch; each is yielded in ``grad_accum_steps`` micro-batches."""
        return len(self.dataset.train) // self.batch_size

    @property
    def shown(self) -> int:
        """Images that an epoch shows."""
        return self.steps * self.batch_size

    @property
    def sizes(self) -> list[int]:
        """Images in each micro-batch of a batch, in order."""
        return [len(part) for part in np.array_split(np.arange(self.batch_size), self.grad_accum_steps)]

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions of the images of an epoch, batch after batch."""
        generator, train, count = np.random.default_rng([self.seed, epoch]), self.dataset.train, self.shown
        if self.balance == "sample":
            return train[balanced(self.dataset.targets[train], count, generator)]
        return generator.permutation(train)[:count]

    def epoch(
        self, epoch: int, part: Callable[[np.ndarray], np.ndarray] = lambda whole: whole, start: int = 0
    ) -> Iterator[Batch]:
        """Yield the training batches of an epoch as micro-batches: a pure function of (seed, epoch).

        Args:
            part: returns the positions to yield from those of a micro-batch; each of several processes takes its slice.
            start: the first step that is yielded; the views of earlier steps are not made.
        """
        order = self.order(epoch)
        partners = order if self.balance == "sample" else self.dataset.train
        for batch in order.reshape(self.steps, self.batch_size)[start:]:
            for micro_batch in np.array_split(batch, self.grad_accum_steps):
                view = self._view(part(micro_batch), epoch)
                view = self._mix(view, partners) if self.mixup else view
                yield view._replace(class_weight=self._weights)

    def eval_batches(self, positions: np.ndarray, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield all images at ``positions``, unaugmented and in this order.

        Args:
            batch_size: None for ``EVAL_BATCH`` images, divided by ``grad_accum_steps``.
        """
        batch_size = batch_size or max(1, EVAL_BATCH // self.grad_accum_steps)
        for start in range(0, len(positions), batch_size):
            yield self._batch(positions[start : start + batch_size], 0)

    def _view(self, positions: np.ndarray, epoch: int) -> Batch:
        batch = self._batch(positions, epoch)
        return batch._replace(image=self.dataset.augment(batch.image, self.seed, epoch, batch.index))

    def _mix(self, batch: Batch, partners: np.ndarray) -> Batch:
        rows, weight = mixture(self.mixup, self.seed, batch.epoch, batch.index, len(partners))
        partner = self._view(partners[rows.numpy()], batch.epoch)
        weight = weight.to(self.device)
        own = weight[:, None, None, None]
        return batch._replace(
            image=own * batch.image + (1 - own) * partner.image, mixup_target=partner.target, mixup_lam=weight
        )

    def _batch(self, positions: np.ndarray, epoch: int) -> Batch:
        index = torch.from_numpy(np.ascontiguousarray(positions))
        if self._resident is None:
            image = torch.from_numpy(self.dataset.images[positions]).to(self.device)
        else:
            image = self._resident[index.to(self.device)]
        image = image.permute(0, 3, 1, 2).float().div_(255).expand(-1, 3, -1, -1)
        return Batch(image, self._targets[index].to(self.device), index, epoch)


def balanced(targets: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return ``count`` rows of ``targets`` in random order, with all present classes equally often (up to one row).

    So an image is drawn with a probability inverse to the size of its class. Within a class the numbers of draws
    differ by at most one: some images of a common class are left out (which ones depends on the generator), and all
    images of a rare class repeat.

    Args:
        targets: int64 [N].
    """
    present, which = np.unique(targets, return_inverse=True)
    labels = generator.permutation(np.resize(generator.permutation(len(present)), count))
    rows = np.empty(count, np.int64)
    for members, places in zip(_by_label(which, len(present)), _by_label(labels, len(present)), strict=True):
        rounds = [generator.permutation(members) for _ in range(0, len(places), len(members))]
        rows[places] = np.concatenate([members[:0], *rounds])[: len(places)]
    return rows


def _by_label(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the positions of each of ``count`` labels."""
    return np.split(np.argsort(labels, kind="stable"), np.bincount(labels, minlength=count).cumsum()[:-1])


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return [K], N / (present classes x images of the class), 0 for a class without images.

    The mean over the images of ``targets`` is 1.
    """
    counts = np.bincount(targets, minlength=classes)
    return np.where(counts > 0, len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
