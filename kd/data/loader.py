"""Batches from a decoded data set: no worker processes, no decoding, nothing random that a seed does not name."""

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

EVAL_BATCH = 128  # images that are answered at a time where nothing is learned
BALANCES = ("none", "sample", "weight")
RESIDENT = 8 * 2**30  # bytes of uint8 images that may lie on an accelerator for the length of a run


class Loader:
    """Walks one data set on one device.

    Args:
        batch_size: images a training batch; an incomplete last batch is left out of the epoch (another lot is
            left out in the next), unless it is the only one.
        seed: names the order and the views, together with the epoch.
        balance: what is done for rare classes in training. "sample" draws the images of all classes equally often,
            those of a rare one several times an epoch (each time the same view) and not all of a common one; "weight"
            gives every batch the weights of its labels, see ``class_weights``.
        mixup: probability that another training image is mixed into a training view.
        grad_accum_steps: in which a batch is computed, one after another, where memory does not hold it at once. They differ by
            one image at most, see ``sizes``.

    Raises:
        ValueError: a batch or a piece of fewer than 2 images, an unknown balance.
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
            raise ValueError(f"train.batch_size must be 2 or more (batch norm needs company), got {batch_size}")
        if len(dataset.train) < 2:
            raise ValueError(
                f"training wants 2 images or more (batch norm needs company), and there are {len(dataset.train)}"
            )
        if batch_size > len(dataset.train):
            warn_user(
                f"train.batch_size={batch_size}: there are {len(dataset.train)} training images, so that many a batch"
            )
        self.batch_size = min(batch_size, len(dataset.train))
        if not 1 <= grad_accum_steps <= self.batch_size // 2:
            raise ValueError(
                f"train.grad_accum_steps must lie between 1 and {self.batch_size // 2}, so that each piece of a batch of "
                f"{self.batch_size} has 2 images or more (batch norm needs company); got {grad_accum_steps}"
            )
        self.dataset, self.seed, self.device, self.mixup, self.grad_accum_steps = (
            dataset,
            seed,
            device,
            mixup,
            grad_accum_steps,
        )
        self.balance = balance
        self._targets = torch.from_numpy(dataset.targets)
        self._weights: Tensor | None = None
        if balance == "weight":
            weights = class_weights(dataset.targets[dataset.train], len(dataset.classes))
            self._weights = torch.from_numpy(weights).float().to(device)
        self._resident: Tensor | None = None
        if device.type != "cpu" and dataset.images.nbytes <= RESIDENT:
            self._resident = torch.from_numpy(np.array(dataset.images)).to(device)

    def with_seed(self, seed: int, mixup: float) -> Loader:
        """The same with another order and other views; what lies on the device is shared."""
        other = copy.copy(self)
        other.seed, other.mixup = seed, mixup
        return other

    @property
    def steps(self) -> int:
        """Training batches an epoch; each is yielded in ``grad_accum_steps``."""
        return len(self.dataset.train) // self.batch_size

    @property
    def shown(self) -> int:
        """Images that an epoch shows."""
        return self.steps * self.batch_size

    @property
    def sizes(self) -> list[int]:
        """Images in each piece of a batch, in order."""
        return [len(piece) for piece in np.array_split(np.arange(self.batch_size), self.grad_accum_steps)]

    def order(self, epoch: int) -> np.ndarray:
        """Positions of the images that an epoch shows, one batch behind the other."""
        generator, train, count = np.random.default_rng([self.seed, epoch]), self.dataset.train, self.shown
        if self.balance == "sample":
            return train[balanced(self.dataset.targets[train], count, generator)]
        return generator.permutation(train)[:count]

    def epoch(
        self, epoch: int, part: Callable[[np.ndarray], np.ndarray] = lambda whole: whole, start: int = 0
    ) -> Iterator[Batch]:
        """Training batches, piece by piece: order and views are a pure function of (seed, epoch).

        Args:
            part: of the positions of each piece, which are yielded; one of several processes takes its slice.
            start: the first step whose grad_accum_steps are yielded; those before are not made.
        """
        order = self.order(epoch)
        partners = order if self.balance == "sample" else self.dataset.train
        for batch in order.reshape(self.steps, self.batch_size)[start:]:
            for piece in np.array_split(batch, self.grad_accum_steps):
                view = self._view(part(piece), epoch)
                view = self._mix(view, partners) if self.mixup else view
                yield view._replace(class_weight=self._weights)

    def eval_batches(self, positions: np.ndarray, batch_size: int | None = None) -> Iterator[Batch]:
        """The images themselves, in the order given, every one; fewer at a time where batches come in grad_accum_steps."""
        batch_size = batch_size or max(1, EVAL_BATCH // self.grad_accum_steps)
        for start in range(0, len(positions), batch_size):
            yield self._batch(positions[start : start + batch_size], 0)

    def _view(self, positions: np.ndarray, epoch: int) -> Batch:
        batch = self._batch(positions, epoch)
        return batch._replace(image=self.dataset.augment(batch.image, self.seed, epoch, batch.index))

    def _mix(self, batch: Batch, partners: np.ndarray) -> Batch:
        rows, share = mixture(self.mixup, self.seed, batch.epoch, batch.index, len(partners))
        partner = self._view(partners[rows.numpy()], batch.epoch)
        share = share.to(self.device)
        own = share[:, None, None, None]
        return batch._replace(
            image=own * batch.image + (1 - own) * partner.image, mixup_target=partner.target, mixup_lam=share
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
    """Draw ``count`` rows of ``targets`` in a random order, those of every class that is there equally often, give one.

    So an image is drawn with a probability inverse to the number of its class. Within a class none is drawn once more
    than another: of a common one some are left out (another lot with another generator), of a rare one all repeat.

    Args:
        targets: int64 [N].
    """
    present, which = np.unique(targets, return_inverse=True)
    labels = generator.permutation(np.resize(generator.permutation(len(present)), count))
    rows = np.empty(count, np.int64)
    for mine, places in zip(_by_label(which, len(present)), _by_label(labels, len(present)), strict=True):
        rounds = [generator.permutation(mine) for _ in range(0, len(places), len(mine))]
        rows[places] = np.concatenate([mine[:0], *rounds])[: len(places)]
    return rows


def _by_label(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Where each of ``count`` labels stands."""
    return np.split(np.argsort(labels, kind="stable"), np.bincount(labels, minlength=count).cumsum()[:-1])


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return [K], N / (classes that are there x images of the class): their mean over the images of ``targets`` is 1.

    A class without images gets 0.
    """
    counts = np.bincount(targets, minlength=classes)
    return np.where(counts > 0, len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
