"""A chain of augmentation steps: the views of a training, each a pure function of (seed, epoch, index, view).

A view does not depend on batch size, order, worker, rank or device. So a teacher's logits on every view can be cached
once, a resumed run sees the same views as an uninterrupted one, and the labels-only baseline sees the same views as
the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kd.runtime.resampling import resize_antialiased
from kd.runtime.rng import random_uniforms

VIEW = 2**20  # distance between the first random numbers of two views of an image
MIXING = 2**40  # the first random number of mixup and CutMix, which all views of an image share


class Step(Protocol):
    """One augmentation: ``kd/augment/<name>.py``. It is hashable, and equal to one with the same settings."""

    draws: int  # random numbers that a view needs
    resizes: bool  # whether it makes images of the trained side from images of the stored side

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """Return what determines the views, float32 [N, P].

        Args:
            u: float64 [N, draws] in [0, 1), on the CPU. side: pixels, of the images that ``apply`` gets.
        """

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        """Return views [B, 3, size, size] in [0, 1].

        Args:
            image: [B, 3, side, side] in [0, 1], on any device; not changed. parameters: [B, P], on that device.
            host: the same on the CPU, for decisions: reading them off an accelerator would wait for it.
        """


class Drawn(NamedTuple):
    """The parameters of views."""

    host: Tensor  # float32 [N, P], on the CPU
    device: Tensor  # the same, on the device of the images

    def rows(self, rows: slice) -> Drawn:
        return Drawn(self.host[rows], self.device[rows])


class Chain:
    """Makes views from stored images.

    Where the first step does not resize, and images are stored larger than trained, all images are first cropped and
    resized as in evaluation.

    Args:
        steps: in order. At most the first resizes.
        stored, size: pixels a side of stored images and of views.
        crop_pct: share of the side that evaluation shows, see ``centre_view``.

    Raises:
        ValueError: a later step resizes.
    """

    def __init__(self, steps: Sequence[Step], stored: int, size: int, crop_pct: float = 1.0):
        late = [type(step).__name__ for step in steps[1:] if step.resizes]
        if late:
            raise ValueError(f"{late[0]} must be the first step of an augmentation, since it chooses what is cropped")
        self.steps, self.stored, self.size, self.crop_pct = tuple(steps), stored, size, crop_pct
        self.resizes = bool(steps) and steps[0].resizes
        none = torch.zeros(1, 0, dtype=torch.float64)
        self.widths = [
            step.parameters(none.new_zeros(1, step.draws), side).shape[1] for step, side in self._with_sides()
        ]

    def _with_sides(self) -> list[tuple[Step, int]]:
        """Return each step with the side of the images that it gets."""
        return [(step, self.stored if step.resizes else self.size) for step in self.steps]

    def parameters(self, seed: int, epoch: int, index: Tensor, view: int = 0) -> Tensor:
        """Return what determines the views of images, float32 [N, P], on the CPU.

        Args:
            index: [N] int64, on the CPU: of a batch, or of a whole epoch at once. view: counts views of an image.
        """
        u = random_uniforms(seed, epoch, index, sum(step.draws for step in self.steps), start=view * VIEW)
        parts = u.split([step.draws for step in self.steps], 1) if self.steps else []
        drawn = [step.parameters(part, side) for part, (step, side) in zip(parts, self._with_sides(), strict=True)]
        return torch.cat(drawn, 1) if drawn else torch.zeros(len(index), 0)

    def apply(self, image: Tensor, drawn: Drawn) -> Tensor:
        """Return the views [B, 3, size, size] of stored images [B, 3, stored, stored] in [0, 1]."""
        if not self.resizes:
            image = self.centre(image)
        parts = zip(drawn.device.split(self.widths, 1), drawn.host.split(self.widths, 1), strict=True)
        for step, (parameters, host) in zip(self.steps, parts if self.steps else (), strict=True):
            image = step.apply(image, parameters, host, self.size)
        return image

    def centre(self, image: Tensor) -> Tensor:
        """Return the view of evaluation, see ``centre_view``."""
        return centre_view(image, self.size, self.crop_pct)

    def __call__(self, image: Tensor, seed: int, epoch: int, index: Tensor, view: int = 0) -> Tensor:
        """Return the view of each image for (seed, epoch, index, view); ``index`` is on the CPU."""
        host = self.parameters(seed, epoch, index, view)
        return self.apply(image, Drawn(host, host.to(image.device)))


def centre_view(image: Tensor, size: int, crop_pct: float = 1.0) -> Tensor:
    """Crop the central square and resize it (bilinear, antialiased): [B, C, S, S] -> [B, C, size, size].

    Args:
        crop_pct: side of the crop as a share of S. timm's evaluation resizes first and crops then; up to rounding this
            is the same view.
    """
    side = max(1, round(image.shape[-1] * crop_pct))
    if side < image.shape[-1]:
        start = (image.shape[-1] - side) // 2
        image = image[..., start : start + side, start : start + side]
    return resize_antialiased(image, size, size)
