"""Batches from a decoded data set: no worker processes, no decoding, nothing random that a seed does not name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from kd.data.augment import mixture
from kd.data.pictures import Pictures
from kd.interfaces import Batch, advise

LOOKED = 128  # images that are answered at a time where nothing is learned
RESIDENT = 8 * 2**30  # bytes of uint8 images that may lie on an accelerator for the length of a run


class Loader:
    """Walks one data set on one device.

    Args:
        batch_size: images a training batch; an incomplete last batch is left out of the epoch (another lot is
            left out in the next), unless it is the only one.
        seed: names the order and the views, together with the epoch.
        mixup: probability that another training image is mixed into a training view.
        pieces: in which a batch is computed, one after another, where memory does not hold it at once. They differ by
            one image at most, see ``sizes``.

    Raises:
        ValueError: a batch or a piece of fewer than 2 images.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        seed: int,
        device: torch.device,
        mixup: float = 0.0,
        pieces: int = 1,
    ):
        if batch_size < 2:
            raise ValueError(f"train.batch_size must be 2 or more (batch norm needs company), got {batch_size}")
        if len(pictures.train) < 2:
            raise ValueError(
                f"training wants 2 images or more (batch norm needs company), and there are {len(pictures.train)}"
            )
        if batch_size > len(pictures.train):
            advise(
                f"train.batch_size={batch_size}: there are {len(pictures.train)} training images, so that many a batch"
            )
        self.batch_size = min(batch_size, len(pictures.train))
        if not 1 <= pieces <= self.batch_size // 2:
            raise ValueError(
                f"train.pieces must lie between 1 and {self.batch_size // 2}, so that each piece of a batch of "
                f"{self.batch_size} has 2 images or more (batch norm needs company); got {pieces}"
            )
        self.pictures, self.seed, self.device, self.mixup, self.pieces = pictures, seed, device, mixup, pieces
        self._targets = torch.from_numpy(pictures.targets)
        self._resident: Tensor | None = None
        if device.type != "cpu" and pictures.images.nbytes <= RESIDENT:
            self._resident = torch.from_numpy(np.array(pictures.images)).to(device)

    def differing(self, seed: int, mixup: float) -> Loader:
        """The same with another order and other views; what lies on the device is shared."""
        other = copy.copy(self)
        other.seed, other.mixup = seed, mixup
        return other

    @property
    def steps(self) -> int:
        """Training batches an epoch; each is yielded in ``pieces``."""
        return len(self.pictures.train) // self.batch_size

    @property
    def sizes(self) -> list[int]:
        """Images in each piece of a batch, in order."""
        return [len(piece) for piece in np.array_split(np.arange(self.batch_size), self.pieces)]

    def order(self, epoch: int) -> np.ndarray:
        """Positions of the images that an epoch shows, one batch behind the other."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.pictures.train)
        return order[: self.steps * self.batch_size]

    def epoch(
        self, epoch: int, part: Callable[[np.ndarray], np.ndarray] = lambda whole: whole, start: int = 0
    ) -> Iterator[Batch]:
        """Training batches, piece by piece: order and views are a pure function of (seed, epoch).

        Args:
            part: of the positions of each piece, which are yielded; one of several processes takes its slice.
            start: the first step whose pieces are yielded; those before are not made.
        """
        for batch in self.order(epoch).reshape(self.steps, self.batch_size)[start:]:
            for piece in np.array_split(batch, self.pieces):
                view = self._view(part(piece), epoch)
                yield self._mix(view) if self.mixup else view

    def plain(self, positions: np.ndarray, batch_size: int | None = None) -> Iterator[Batch]:
        """The images themselves, in the order given, every one; fewer at a time where batches come in pieces."""
        batch_size = batch_size or max(1, LOOKED // self.pieces)
        for start in range(0, len(positions), batch_size):
            yield self._batch(positions[start : start + batch_size], 0)

    def _view(self, positions: np.ndarray, epoch: int) -> Batch:
        batch = self._batch(positions, epoch)
        return batch._replace(image=self.pictures.augment(batch.image, self.seed, epoch, batch.index))

    def _mix(self, batch: Batch) -> Batch:
        train = self.pictures.train
        rows, share = mixture(self.mixup, self.seed, batch.epoch, batch.index, len(train))
        partner = self._view(train[rows.numpy()], batch.epoch)
        share = share.to(self.device)
        own = share[:, None, None, None]
        return batch._replace(image=own * batch.image + (1 - own) * partner.image, other=partner.target, share=share)

    def _batch(self, positions: np.ndarray, epoch: int) -> Batch:
        index = torch.from_numpy(np.ascontiguousarray(positions))
        if self._resident is None:
            image = torch.from_numpy(self.pictures.images[positions]).to(self.device)
        else:
            image = self._resident[index.to(self.device)]
        image = image.permute(0, 3, 1, 2).float().div_(255).expand(-1, 3, -1, -1)
        return Batch(image, self._targets[index].to(self.device), index, epoch)
