"""A decoded data set: every ``kd/data/datasets/<name>.py`` returns one, and the loader reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kd.data.bit_depth import White
from kd.data.sizing import Sizing


class Unlabelled(NamedTuple):
    """Images without labels, which a student sees and its teacher labels."""

    images: np.ndarray  # uint8 [M, S, S, C], memory-mapped, of the size of the labelled images
    fingerprint: str  # of the images: it enters the keys of students


@dataclass(frozen=True)
class ImageDataset:
    """All images of a data set, decoded, with three splits."""

    name: str
    images: np.ndarray  # uint8 [N, S, S, C], C 1 or 3, memory-mapped; train first, then test
    targets: np.ndarray  # int64 [N]
    classes: tuple[str, ...]
    train: np.ndarray  # positions, int64
    val: np.ndarray
    test: np.ndarray
    mean: tuple[float, float, float]  # of the training split, images in [0, 1]
    std: tuple[float, float, float]
    fingerprint: str  # of images, targets and splits: it enters the content keys
    notes: Mapping[str, Any] = field(default_factory=dict)  # for the report, such as files left out
    size: Sizing | None = None  # None: images are shown as they are stored
    unlabelled: Unlabelled | None = None  # at the positions after those of ``images``
    hidden: np.ndarray | None = None  # positions of training images whose labels are not used: see ``hide_labels``
    white: White = White()  # of files of more than 8 bits: pass it to ``read_image`` for a new image

    @property
    def image_size(self) -> int:
        """Pixels a side of what networks see."""
        return self.images.shape[1] if self.size is None else self.size.image_size

    @property
    def crop_pct(self) -> float:
        return 1.0 if self.size is None else self.size.crop_pct
