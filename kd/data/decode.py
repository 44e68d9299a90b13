"""Image files of any mode into rows of one uint8 array, each bad file named.

An image is turned as its EXIF orientation says, laid on white where it is transparent, converted to 8-bit RGB without
colour management, and squashed to a square (the aspect ratio is not kept, as Keras' ``image_dataset_from_directory``
does it). Pillow's bilinear filter averages over the whole footprint when it shrinks (antialiasing). A file of the right
size is not resampled. Of an animation the first frame counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

VERSION = 1  # raise it when the same file would give other pixels
LISTED = 20  # bad files named in the notes; the error names them all


def read_image(path: str, size: int) -> np.ndarray:
    """Return [size, size, 3] uint8.

    Raises:
        Exception: whatever Pillow's decoders stumble on; ValueError for more pixels than ``Image.MAX_IMAGE_PIXELS``.
    """
    with Image.open(path) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit and image.width * image.height > limit:  # Pillow itself refuses only twice as many
            raise ValueError(f"{image.width} x {image.height} pixels, more than Pillow's limit of {limit:,}")
        ImageOps.exif_transpose(image, in_place=True)
        rgb = to_rgb(image)
        if rgb.size != (size, size):
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(rgb)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency over white, 16-bit greys scaled to 8 bits.

    Raises:
        ValueError: for 32-bit and float greys, which do not say what white is.
    """
    if image.mode.startswith("I") or image.mode == "F":  # convert() would clip these at 255
        grey = np.asarray(image)
        if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
            raise ValueError(
                f"mode {image.mode} with values in [{grey.min()}, {grey.max()}]: no white point is defined"
            )
        image = Image.fromarray(np.round(grey / 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode_into(images: np.ndarray, files: Mapping[str, str], on_bad_file: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Fill ``images`` [N, S, S, 3] with ``files`` ({label: path}) and return (positions kept [M], notes).

    Every file is tried before anything is said. With bad files left out, the first M rows hold the others in order.

    Raises:
        ValueError: with ``on_bad_file="error"``, naming every file that cannot be read and why.
    """
    paths = list(files.values())

    def fill(row: int) -> str | None:
        try:
            images[row] = read_image(paths[row], images.shape[1])
        except UnidentifiedImageError:
            return "not an image that Pillow knows" if os.path.getsize(paths[row]) else "the file is empty"
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
            return str(error) or type(error).__name__
        return None

    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter's lock while it decodes and resizes
        rows = pool.map(fill, range(len(paths)))
        reasons = list(tqdm(rows, "decode", len(paths), unit=" images", disable=None))
    bad = [f"{label}: {reason}" for label, reason in zip(files, reasons, strict=True) if reason]
    if bad and on_bad_file == "error":
        raise ValueError(
            f"{len(bad)} of {len(paths)} files cannot be read as images. "
            "Mend or remove them, or leave them out with data.on_bad_file=skip:\n  " + "\n  ".join(bad)
        )
    kept = np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64)
    if bad:
        for to, row in enumerate(kept):  # row >= to: nothing is overwritten before it has moved
            images[to] = images[row]
    return kept, {"bad_files": len(bad), "bad_file_names": bad[:LISTED]} if bad else {}
