"""Figure of augmentations: views of a few images by each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from kd.report.figures.style import DPI, INK, WIDTH, styled

WORDS = 1.15  # inches, for the names
GAP, APART = 2, 8  # pixels between views, and between images
GRAIN = 4  # steps of 256 that are merged: a quarter less to store, and not to be seen


@styled
def augment_views(views: Mapping[str, np.ndarray]) -> Figure:
    """Draw views of the same images by several augmentations, or many views by one.

    Several augmentations have a row each, with the views of each image side by side. One has a row for each image.

    Args:
        views: name of the augmentation -> uint8 [M, V, H, H, 3], V views of each of M images.
    """
    images, count = next(iter(views.values())).shape[:2]
    if len(views) == 1:
        name, shown = next(iter(views.items()))
        rows, labels = [row[None] for row in shown], [""] * images
        title = f"{count} views of each of {images} images by augment={name}"
    else:
        rows, labels = list(views.values()), list(views)
        title = f"{count} views of each of {images} images by each augmentation"
    words = WORDS if any(labels) else 0.1
    mosaic, centres = _mosaic(rows)
    head = 0.32
    wide = WIDTH - words - 0.1
    high = wide * mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(WIDTH, head + high + 0.08), dpi=DPI)
    height = figure.get_figheight()
    figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontsize=12)
    axes = figure.add_axes((words / WIDTH, 0.08 / height, wide / WIDTH, high / height))
    axes.set_axis_off()
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    for label, centre in zip(labels, centres, strict=True):
        axes.annotate(
            label,
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


def _mosaic(rows: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Lay views out on white, an array [M, V, H, H, 3] a row; return the pixels and the centre of each row."""
    images, count, side = rows[0].shape[:3]
    pitch = side + GAP
    apart = count * pitch - GAP + APART
    whole = np.full((len(rows) * pitch - GAP, images * apart - APART, 3), 255, np.uint8)
    for k, row in enumerate(rows):
        for i in range(images):
            for v in range(count):
                top, left = k * pitch, i * apart + v * pitch
                whole[top : top + side, left : left + side] = row[i, v]
    return whole // GRAIN * GRAIN + GRAIN - 1, [k * pitch + (side - 1) / 2 for k in range(len(rows))]
