"""Figure of augmentations: views of a few images by each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from kd.report.figures.style import DPI, INK, WIDTH, styled

WORDS = 1.15  # inches, for the names
GAP, APART = 2, 10  # pixels between views, and between augmentations


@styled
def augment_views(views: Mapping[str, np.ndarray]) -> Figure:
    """Draw views of the same images by several augmentations: a row for each image, its views side by side.

    Args:
        views: name of the augmentation -> uint8 [M, V, H, H, 3], V views of each of M images.
    """
    images, count = next(iter(views.values())).shape[:2]
    mosaic, centres = _mosaic(list(views.values()))
    head, wide = 0.32, WIDTH - WORDS - 0.1
    high = wide * mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(WIDTH, head + high + 0.08), dpi=DPI)
    height = figure.get_figheight()
    title = f"{count} views of each of {images} images"
    figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontsize=12)
    axes = figure.add_axes((WORDS / WIDTH, 0.08 / height, wide / WIDTH, high / height))
    axes.set_axis_off()
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    for name, centre in zip(views, centres, strict=True):
        axes.annotate(
            name,
            (0, centre),
            (-7, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            color=INK,
            fontsize=9.5,
        )
    return figure


def _mosaic(blocks: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Lay arrays [M, V, H, H, 3] below each other on white; return the pixels and the centre of each block."""
    images, count, side = blocks[0].shape[:3]
    pitch = side + GAP
    apart = images * pitch - GAP + APART
    whole = np.full((len(blocks) * apart - APART, count * pitch - GAP, 3), 255, np.uint8)
    for k, block in enumerate(blocks):
        for i in range(images):
            for v in range(count):
                top, left = k * apart + i * pitch, v * pitch
                whole[top : top + side, left : left + side] = block[i, v]
    return whole, [k * apart + (images * pitch - GAP - 1) / 2 for k in range(len(blocks))]
