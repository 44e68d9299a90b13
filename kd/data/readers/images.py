"""Decode image files of any mode into rows of one uint8 array, and name each bad file.

An image is rotated by its EXIF orientation, converted to 8 bits a channel (bit_depth.py), composited over white if it
is transparent, converted to RGB without colour management, and made a square (sizing.py). Pillow's bilinear filter
averages over the whole footprint when it shrinks (antialiasing). A file of the right size is not resampled. An
animation gives its first frame.

Files are not trusted. The suffix is ignored, and a format is read only if it is in ``FORMATS``: EPS, for example, would
start Ghostscript, which executes the file. Only regular files are opened, so a pipe cannot block. A file that would
unpack to more than ``MAX_PIXELS`` is refused by its header, and all files that are decoded at a time share that limit:
at 25 bytes a pixel, decoding peaks at 2.2 GB for any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from threading import Condition
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from kd.data.bit_depth import White, load_in_8_bits
from kd.data.journal import Journal
from kd.data.readers.parallel import fill_rows
from kd.data.sizing import describe_shapes, to_square
from kd.data.sources import Source, is_picture, refusal, size_of, stream_of

VERSION = 2  # raise it when the same file gives other pixels
WHITE = White()  # the default
FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "SUN", "TGA", "TIFF"}
FORMATS |= {"WEBP"}
MAX_PIXELS = 89_478_485  # Pillow's limit, which other code in the process may have removed
MAX_SIDE = 1_000_000  # pixels: every row costs additional memory
MAX_BYTES = 2**30  # of a file: some decoders read all of it
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class MemoryGate:
    """Admit threads up to a total ``size``; a thread that needs ``size`` or more runs alone."""

    def __init__(self, size: int):
        self.size, self.taken, self.changed = size, 0, Condition()

    @contextmanager
    def __call__(self, amount: int) -> Iterator[None]:
        amount = min(amount, self.size)
        with self.changed:
            self.changed.wait_for(lambda: self.taken + amount <= self.size)
            self.taken += amount
        try:
            yield
        finally:
            with self.changed:
                self.taken -= amount
                self.changed.notify_all()


# entered in this order: otherwise two threads could wait for each other
_bytes, _pixels = MemoryGate(MAX_BYTES), MemoryGate(MAX_PIXELS)


def read_image(source: Source, size: int, white: White = WHITE, fit: str = "crop") -> np.ndarray:
    """Return an image as [size, size, 3] uint8.

    Args:
        fit: of images that are not square, see ``kd.data.sizing.Sizing``.
        white: for images of more than 8 bits a channel. For inference, pass the white of the data set that the network
            was trained on, ``ImageDataset.white``.

    Raises:
        Exception: any error of Pillow's decoders; ValueError for a file that is too large or must not be opened.
    """
    with opened(source) as image, memory_for(image):
        return np.asarray(to_square(upright(image, white), size, fit))


@contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """Open an image and read nothing but its header.

    Raises:
        ValueError: for a file that must not be opened.
    """
    if is_picture(source):
        yield source.picture()
        return
    reason = refusal(source)
    if reason:
        raise ValueError(reason)
    length = size_of(source)
    if length > MAX_BYTES:
        raise ValueError(f"a file of {length / 2**30:.1f} GiB: more than the limit of {MAX_BYTES / 2**30:.0f} GiB")
    # an open file, not its name: Pillow would map the file, and if it were truncated meanwhile the process would die
    with _bytes(length), stream_of(source) as file, Image.open(file, formats=_formats()) as image:
        yield image


@contextmanager
def memory_for(image: Image.Image) -> Iterator[None]:
    """Wait until there is memory to unpack an opened image.

    Raises:
        ValueError: for an image that is too large.
    """
    pixels = unpacked(image)
    if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
        size = f"{image.width} x {image.height}, {pixels:,} pixels to unpack"
        raise ValueError(f"{size}: more than the limit of {MAX_PIXELS:,}, or of {MAX_SIDE:,} a side")
    with _pixels(pixels):
        try:
            yield
        finally:
            image.close()  # frees the pixels before the gate admits another thread


def upright(image: Image.Image, white: White) -> Image.Image:
    """Return an opened image in RGB, in 8 bits, rotated by its EXIF orientation."""
    in_8_bits = load_in_8_bits(image, white)
    rotation = orientation(image)
    return to_rgb(in_8_bits if rotation is None else in_8_bits.transpose(rotation))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    # malloc keeps a freed block below 32 MB for its thread: every thread would hold its peak until the process ends
    Image.core.set_block_size(64 * 2**20)
    # in Pillow's order: the least specific signatures come last
    return tuple(name for name in Image.ID if name in FORMATS)


def unpacked(image: Image.Image) -> int:
    """Return the number of pixels that the decoder holds at once, which may be more than the image has."""
    buffer = 0
    if image.format == "AVIF":  # the stream may have another size: the decoder knows and limits it
        buffer = MAX_PIXELS
    if image.format == "TIFF":  # a tile may be larger than the image, and all of it is unpacked
        buffer = image.tag_v2.get(ExifTags.Base.TileWidth, 0) * image.tag_v2.get(ExifTags.Base.TileLength, 0)
    return max(buffer, image.width * image.height)


def orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition for an image's EXIF orientation; None if it is missing or damaged."""
    try:
        return TURNED.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # struct.error, SyntaxError, OSError and more; the image itself is intact
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of 8 bits a channel to RGB, with transparency over white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode_into(
    images: np.ndarray,
    files: Mapping[str, Source],
    on_bad_file: str,
    white: White = WHITE,
    fit: str = "crop",
    journal: Journal | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fill ``images`` [N, S, S, 3] with ``files`` ({label: source}) and return (positions kept [M], notes).

    Every file is tried before an error is raised. If bad files are left out, the first M rows hold the others in order.

    Args:
        journal: of ``images``; rows that a killed process completed are not decoded again.

    Raises:
        ValueError: with ``on_bad_file="error"``, naming every unreadable file and the reason.
    """
    sources = list(files.values())

    def fill(row: int) -> tuple[int, int]:
        with opened(sources[row]) as image, memory_for(image):
            rgb = upright(image, white)
            images[row] = to_square(rgb, images.shape[1], fit)
            return rgb.size

    kept, notes, shapes = fill_rows(images, list(files), fill, on_bad_file, journal)
    if said := describe_shapes(shapes, fit):
        notes["shapes"] = said
    return kept, notes
