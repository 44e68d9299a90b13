"""From a picture to what a network reads: the same pixels that the run's test images had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kd.augment.chain import centre_view
from kd.data.bit_depth import White
from kd.data.loader import to_unit_range
from kd.data.readers.images import read_image, upright
from kd.data.sizing import to_square
from kd.inference.description import Description

Picture = Image.Image | str | os.PathLike


def stored_pixels(picture: Picture, description: Description) -> np.ndarray:
    """Return a picture as the data set of the run would store it: uint8 [S, S, C], C 1 or 3.

    Rotated by its EXIF orientation, in 8 bits, over white where transparent, in RGB, made a square by
    ``description.fit``; grey if the data set is.

    Args:
        picture: an image of Pillow, or the path of a file. Files are not trusted: see ``kd/data/readers/images.py``.

    Raises:
        Exception: any error of Pillow's decoders; ValueError for a file that is too large or must not be opened.
    """
    side, white = description.stored_size, White(*description.white)
    if isinstance(picture, Image.Image):
        pixels = np.asarray(to_square(upright(picture.copy(), white), side, description.fit))
    else:
        pixels = read_image(os.fspath(picture), side, white, description.fit)
    if description.channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return pixels


def shown(pixels: np.ndarray | Tensor, description: Description) -> Tensor:
    """Return what a network sees of stored pixels: uint8 [B, S, S, C] -> float32 [B, 3, image_size, image_size] in
    [0, 1]."""
    images = to_unit_range(torch.as_tensor(pixels))
    return centre_view(images, description.image_size, description.crop_pct)


def preprocess(pictures: Picture | Sequence[Picture], description: Description) -> Tensor:
    """Return pictures as the run's test images: float32 [B, 3, image_size, image_size] in [0, 1].

    Args:
        pictures: one (B is 1 then) or several; see ``stored_pixels``.

    Raises:
        ValueError: a file that is no picture; names it.
        FileNotFoundError: no such file.
    """
    one = isinstance(pictures, Image.Image | str | os.PathLike)
    rows = [_stored(picture, description) for picture in ([pictures] if one else pictures)]
    if not rows:
        raise ValueError("there are no pictures to prepare")
    return shown(np.stack(rows), description)


def _stored(picture: Picture, description: Description) -> np.ndarray:
    if not isinstance(picture, Image.Image) and not Path(picture).exists():
        raise FileNotFoundError(f"there is no {picture}")
    try:
        return stored_pixels(picture, description)
    except Exception as error:  # Pillow's decoders raise many kinds
        named = type(picture).__name__ if isinstance(picture, Image.Image) else picture
        raise ValueError(f"{named} is not a picture that can be read: {error}") from error
