"""Image files of any mode into rows of one uint8 array, each bad file named.

An image is turned as its EXIF orientation says, brought to 8 bits a channel (depth.py), laid on white where it is
transparent, converted to RGB without colour management, and squashed to a square (the aspect ratio is not kept, as
Keras' ``image_dataset_from_directory`` does it). Pillow's bilinear filter averages over the whole footprint when it
shrinks (antialiasing). A file of the right size is not resampled. Of an animation the first frame counts.

Files are not trusted. The suffix says nothing, and a format is read only if it is in ``FORMATS``: EPS, for one, would
start Ghostscript, which runs what the file says. Only a regular file is opened, so no pipe is waited for. What would
unpack to more than ``MAX_PIXELS`` is refused by its header, and all files that are being decoded share that number: 25
bytes a pixel make the peak of a decoding 2.2 GB, whatever the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Condition
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm import tqdm

from kd.data.bit_depth import White, load_in_8_bits
from kd.data.files import printable, reason_of, unreadable_reason
from kd.data.readers.silence import silence_libraries

VERSION = 1  # raise it when the same file would give other pixels
WHITE = White()  # where no set says otherwise
LISTED = 20  # bad files named in the notes; the error names them all
FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "SUN", "TGA", "TIFF"}
FORMATS |= {"WEBP"}
MAX_PIXELS = 89_478_485  # Pillow's limit, which others in the process may have set aside
MAX_SIDE = 1_000_000  # pixels: every line costs memory of its own
MAX_BYTES = 2**30  # of a file: some decoders read it whole
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
    """Lets so many threads in at once as there is room for, and what is as large as the room alone."""

    def __init__(self, size: int):
        self.size, self.taken, self.left = size, 0, Condition()

    @contextmanager
    def __call__(self, amount: int) -> Iterator[None]:
        amount = min(amount, self.size)
        with self.left:
            self.left.wait_for(lambda: self.taken + amount <= self.size)
            self.taken += amount
        try:
            yield
        finally:
            with self.left:
                self.taken -= amount
                self.left.notify_all()


_bytes, _pixels = (
    MemoryGate(MAX_BYTES),
    MemoryGate(MAX_PIXELS),
)  # entered in this order, or two threads might wait for each other


def read_image(path: str, size: int, white: White = WHITE) -> np.ndarray:
    """Return [size, size, 3] uint8.

    Args:
        white: of images of more than 8 bits a channel; an image that a network shall answer wants that of the set
            the network was trained on, ``ImageDataset.white``.

    Raises:
        Exception: whatever Pillow's decoders stumble on; ValueError for what is too large or must not be opened.
    """
    with opened(path) as image, memory_for(image):
        return _square(image, size, white)


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """An image of which the header was read, and nothing else.

    Raises:
        ValueError: for what must not be opened.
    """
    reason = unreadable_reason(path)
    if reason:
        raise ValueError(reason)
    length = os.path.getsize(path)
    if length > MAX_BYTES:
        raise ValueError(f"a file of {length / 2**30:.1f} GiB; at most {MAX_BYTES / 2**30:.0f} is read")
    # an open file, not its name: Pillow would map the file, and one that is cut meanwhile would kill the process
    with _bytes(length), open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
        yield image


@contextmanager
def memory_for(image: Image.Image) -> Iterator[None]:
    """Wait until there is room to unpack an opened image.

    Raises:
        ValueError: for what is too large.
    """
    pixels = unpacked(image)
    if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
        found = f"{image.width} x {image.height}, {pixels:,} pixels to unpack"
        raise ValueError(f"{found}: more than the limit of {MAX_PIXELS:,}, or of {MAX_SIDE:,} a side")
    with _pixels(pixels):
        try:
            yield
        finally:
            image.close()  # lets go of the pixels, before their room is given to another


def _square(image: Image.Image, size: int, white: White) -> np.ndarray:
    shown = load_in_8_bits(image, white)
    turn = orientation(image)
    rgb = to_rgb(shown if turn is None else shown.transpose(turn))
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    # malloc keeps a freed block below 32 MB for the thread that had it: all threads would hold their peaks for good
    Image.core.set_block_size(64 * 2**20)
    return tuple(name for name in Image.ID if name in FORMATS)  # in Pillow's order: the vaguest marks come last


def unpacked(image: Image.Image) -> int:
    """Pixels that the decoder will hold at once, which may be more than the image has."""
    hidden = 0
    if image.format == "AVIF":  # the stream's own size may be another: known to the decoder, and limited by it
        hidden = MAX_PIXELS
    if image.format == "TIFF":  # a tile may be larger than the image, and is unpacked whole
        hidden = image.tag_v2.get(ExifTags.Base.TileWidth, 0) * image.tag_v2.get(ExifTags.Base.TileLength, 0)
    return max(hidden, image.width * image.height)


def orientation(image: Image.Image) -> Image.Transpose | None:
    """How an image is turned as its EXIF says; None where that is damaged or says nothing."""
    try:
        return TURNED.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # struct.error, SyntaxError, OSError and more; the image itself is whole
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of 8 bits a channel to RGB, transparency over white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode_into(
    images: np.ndarray, files: Mapping[str, str], on_bad_file: str, white: White = WHITE
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fill ``images`` [N, S, S, 3] with ``files`` ({label: path}) and return (positions kept [M], notes).

    Every file is tried before anything is said. With bad files left out, the first M rows hold the others in order.

    Raises:
        ValueError: with ``on_bad_file="error"``, naming every file that cannot be read and why.
    """
    paths = list(files.values())

    def fill(row: int) -> str | None:
        try:
            images[row] = read_image(paths[row], images.shape[1], white)
        except UnidentifiedImageError:
            return "not an image of a known format"
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
            return reason_of(error)
        return None

    with silence_libraries() as terminal:
        pool = ThreadPoolExecutor()  # Pillow lets go of the interpreter's lock while it decodes and resizes
        try:
            rows = pool.map(fill, range(len(paths)))
            reasons = list(tqdm(rows, "decode", len(paths), unit=" images", disable=None, file=terminal))
        finally:
            pool.shutdown(cancel_futures=True)  # who interrupts does not want to wait for the other ten thousand
    bad = [f"{printable(label)}: {reason}" for label, reason in zip(files, reasons, strict=True) if reason]
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
