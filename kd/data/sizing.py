"""How images of any size and shape become the squares that networks see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from kd.data.checks import SMALLEST, check_choice, check_int
from kd.runtime.values import is_number

FITS = ("crop", "pad", "squash")
BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Sizing:
    """Sizes of stored and of shown images, for every data set.

    Args:
        image_size: pixels a side of what networks see.
        stored_size: pixels a side of what is stored, so that a resized crop has more to crop from; None: image_size.
        fit: of an image that is not square: "crop" keeps its central square, "pad" adds black bars, "squash" changes
            its shape.
        crop_pct: share of the stored side that evaluation shows, see ``kd.augment.chain.centre_view``.

    Raises:
        ValueError: for a value out of range.
    """

    image_size: int
    stored_size: int | None = None
    fit: str = "crop"
    crop_pct: float = 1.0

    def __post_init__(self):
        check_int("image_size", self.image_size, SMALLEST, unit="pixels")
        if self.stored_size is not None:
            check_int("stored_size", self.stored_size, self.image_size, unit="pixels, as many as data.image_size")
        check_choice("fit", self.fit, FITS)
        if not is_number(self.crop_pct) or not 0 < self.crop_pct <= 1:
            raise ValueError(f"data.crop_pct must be a number in (0, 1], got {self.crop_pct!r}")

    @property
    def stored(self) -> int:
        return self.image_size if self.stored_size is None else self.stored_size

    @property
    def key(self) -> dict[str, object]:
        """What determines stored pixels, for the key of a decoded data set."""
        return {"image_size": self.stored, "fit": self.fit}

    @property
    def shown(self) -> dict[str, object]:
        """What determines the views of evaluation besides the stored pixels; empty if these are shown as they are."""
        whole = self.stored == self.image_size and self.crop_pct == 1
        return {} if whole else {"image_size": self.image_size, "crop_pct": self.crop_pct}


def to_square(image: Image.Image, size: int, fit: str) -> Image.Image:
    """Resize an image to ``size`` x ``size`` pixels (bilinear, antialiased); one of that size stays as it is."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    if fit == "crop" and width != height:
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), BILINEAR, box=(left, top, left + side, top + side))
    if fit == "pad" and width != height:
        longer = max(width, height)
        inner = image.resize(tuple(max(1, round(side * size / longer)) for side in image.size), BILINEAR)
        square = Image.new(image.mode, (size, size))
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    return image.resize((size, size), BILINEAR)


def describe_shapes(sizes: Iterable[tuple[int, int]], fit: str) -> str:
    """Say how many images are not square, and what was done with them; "" if all are square.

    Args:
        sizes: (width, height) of each image.
    """
    sizes = list(sizes)
    ratios = [width / height for width, height in sizes if width != height]
    if not ratios:
        return ""
    done = {
        "crop": "cropped to their central square (data.fit=pad keeps all of them, with black bars)",
        "pad": "padded with black to a square (data.fit=crop shows their central square, larger)",
        "squash": "squashed to a square, which changes their shape (data.fit=crop and data.fit=pad keep it)",
    }[fit]
    return (
        f"{len(ratios):,} of {len(sizes):,} images are not square (width / height {min(ratios):.2f} to "
        f"{max(ratios):.2f}): {done}"
    )
