"""Convert images of more than 8 bits a channel to 256 levels.

A 12-bit detector writes 16-bit files, and nothing in such a file states that 4095 is white. Scaling from 65535 would
keep 16 levels of 4096. So a data set has one ``White``, set by the user or detected from all files (white_level.py).
Pillow has no mode for 16-bit colour and returns the upper byte of every channel; a second decoding with the other byte
order in the unpacker returns the lower one. At the full range, up to 65535, the upper byte alone is used.

Black is 0. Transparency always uses its full range. If a file states its own white (PGM, JPEG 2000, a 12-bit TIFF),
that level is used, unless the user sets one for the whole data set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

VERSION = 1  # raise it when the same file of more than 8 bits gives other pixels
MAX_16_BIT = 65535
GREY, COLOUR, COARSE = "grey", "colour", "coarse"  # COARSE: only the upper byte of its colours can be read
PIXELS_AT_A_TIME = 2**18  # pixels scaled at a time, as numbers of 8 bytes each
NATIVE = "L" if sys.byteorder == "little" else "B"
BOTH_BYTES = {f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA") for order in "LBN"}
LIBTIFF = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
LIBTIFF = LIBTIFF if NATIVE == "L" else {little: big for big, little in LIBTIFF.items()}
UPPER = {"RGBa;16L", "RGBa;16B", "RGBa;16N", "L;16B", "RGB;16", "SGI16"}
PRECISION = 42  # bytes from the start of a JPEG 2000 code stream to the first channel's


class White(NamedTuple):
    """The level that becomes white (255)."""

    value: float = MAX_16_BIT
    given: bool = False  # set with data.white: levels of any number type are accepted, and values above are clipped


def depth_of(image: Image.Image) -> str:
    """Return GREY, COLOUR or COARSE for an image that is not loaded yet, "" if it has at most 8 bits a channel."""
    if image.mode.startswith("I") or image.mode == "F":
        return GREY
    if image.format == "JPEG2000":
        return COARSE if _precision_of_jpeg_2000(image) > 15 else ""  # with fewer bits the file itself states its white
    if image.format == "PPM":  # as with JPEG 2000
        return (COLOUR if image.tile[0][0] == "ppm" else COARSE) if _largest_of_ppm(image) == MAX_16_BIT else ""
    found = set(map(_rawmode, getattr(image, "tile", ())))  # only an image of a file has tiles
    if found <= UPPER:
        return COARSE if found else ""
    if _is_planar(image) and image.tile[0][0] == "libtiff" and any(";16" in name for name in found):
        return COARSE  # libtiff's own unpackers for planes know one byte order
    return COLOUR if found == {"LA;16B"} or found <= BOTH_BYTES or _lies_in_planes(image) else ""


def own_white(image: Image.Image, white: White) -> White | None:
    """Return the white that a grey image states itself, None if it states none. The file is not loaded yet.

    Pillow scales a PGM's or JPEG 2000's own white to 65535; a white given for the data set is scaled with it.
    """
    if image.format == "PPM" and 0 < _largest_of_ppm(image) < MAX_16_BIT:
        return White(white.value * MAX_16_BIT / _largest_of_ppm(image), True) if white.given else White()
    if image.format == "JPEG2000" and 8 < _precision_of_jpeg_2000(image) < 16:
        return White(white.value * 2 ** (16 - _precision_of_jpeg_2000(image)), True) if white.given else White()
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample) if image.format == "TIFF" else None
    return (white if white.given else White(4095)) if bits == (12,) else None


def load_in_8_bits(image: Image.Image, white: White) -> Image.Image:
    """Load an opened ``image`` and return it with 8 bits a channel, in any mode.

    Raises:
        ValueError: for greys without a defined white, and colours whose lower byte cannot be read.
    """
    depth = depth_of(image)
    if depth == GREY:
        white = own_white(image, white) or white
    if depth == COARSE and white.value != MAX_16_BIT:
        raise ValueError("only the upper 8 of its 16 bits a channel can be read: save it as PNG")
    if depth == COLOUR and white.value != MAX_16_BIT:
        return _colour_in_8_bits(image, white)
    _name_order(image)
    image.load()
    return grey_in_8_bits(image, white) if depth == GREY else image


def grey_in_8_bits(image: Image.Image, white: White) -> Image.Image:
    """Scale greys of mode I, I;16 or F to the nearest of 256 levels: 0 stays black, ``white`` becomes 255."""
    levels = np.asarray(image)
    low, high = levels.min(), levels.max()
    if white.given and not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"mode {image.mode} with values that are not finite")
    if not white.given and (image.mode == "F" or low < 0 or high > MAX_16_BIT):
        raise ValueError(
            f"mode {image.mode} with values in [{low}, {high}]: no white point is defined; set data.white=<its value>"
        )
    return Image.fromarray(to_8_bits(levels, white))


def to_8_bits(levels: np.ndarray, white: White) -> np.ndarray:
    """Return ``levels`` [H, W], of any number type, as uint8."""
    scaled = np.empty(levels.shape, np.uint8)
    rows = max(1, PIXELS_AT_A_TIME // levels.shape[1])
    for top in range(0, len(levels), rows):
        part = np.clip(levels[top : top + rows].astype(np.float64), 0, white.value)
        scaled[top : top + rows] = part * 255 / white.value + 0.5
    return scaled


def extremes(image: Image.Image) -> tuple[float, float]:
    """Load an opened ``image`` and return the smallest and the largest level of its colours."""
    depth = depth_of(image)
    if depth == COLOUR:
        found = [(int(band.min()), int(band.max())) for band in _levels(image)]
    elif depth == COARSE:
        _name_order(image)
        image.load()
        found = [
            (256 * low, 256 * high + 255) for low, high in map(Image.Image.getextrema, image.convert("RGB").split())
        ]
    else:
        _name_order(image)
        image.load()
        levels = np.asarray(image)
        found = [(levels.min().item(), levels.max().item())]
    return min(low for low, _ in found), max(high for _, high in found)


def _colour_in_8_bits(image: Image.Image, white: White) -> Image.Image:
    grey = _is_grey_with_alpha(image)
    bands = [Image.fromarray(to_8_bits(band, white)) for band in _levels(image)]
    if image.mode == "RGBA":
        bands.append(image.getchannel("B" if grey else "A"))
    return Image.merge({2: "LA", 3: "RGB", 4: "RGBA"}[len(bands)], bands)


def _levels(image: Image.Image) -> Iterator[np.ndarray]:
    """Load an image whose depth is COLOUR and yield uint16 [H, W] for each colour."""
    if image.format == "PPM":
        yield from _levels_of_ppm(image)
    elif _is_grey_with_alpha(image):  # four bytes a pixel, for which Pillow has no mode but RGBA
        _retile(image, lambda _: "RGBA")
        image.load()
        yield _joined(image, "R", image, "G")
    else:
        file, size = image.fp, image.size
        _name_order(image)
        image.load()
        lower = Image.open(file, formats=[image.format])  # stays open: closing it would close the file
        if (lower.size, lower.mode) != (size, image.mode):
            raise ValueError("the file changes while it is read")
        _name_order(lower)
        _retile(lower, _lower_byte)
        lower.load()
        for band in "RGB":
            yield _joined(image, band, lower, band)


def _joined(upper: Image.Image, one: str, lower: Image.Image, other: str) -> np.ndarray:
    levels = np.asarray(upper.getchannel(one)).astype(np.uint16)
    levels <<= 8
    levels |= np.asarray(lower.getchannel(other))
    return levels


def _levels_of_ppm(image: Image.Image) -> Iterator[np.ndarray]:
    width, height = image.size
    image.fp.seek(image.tile[0][2])
    data = image.fp.read(6 * width * height)
    if len(data) < 6 * width * height:
        raise OSError("image file is truncated")
    yield from np.moveaxis(np.frombuffer(data, ">u2").reshape(height, width, 3), 2, 0)


def _largest_of_ppm(image: Image.Image) -> int:
    """Return the largest value in the header of a PGM or PPM, 0 if the header has none or 255."""
    args = image.tile[0][3]
    return args[1] if isinstance(args, tuple) and len(args) == 2 else 0


def _rawmode(tile: Any) -> str:
    decoder, *_, args = tile
    return decoder if decoder == "SGI16" else str(args[0] if isinstance(args, tuple) and args else args)


def _lower_byte(rawmode: str) -> str:
    """Return the unpacker for the lower byte of each channel; ``rawmode`` is the one for the upper byte."""
    order = NATIVE if rawmode[-1] == "N" else rawmode[-1]
    return rawmode[:-1] + ("B" if order == "L" else "L")


def _retile(image: Image.Image, change: Any) -> None:
    """Replace every unpacker by ``change(rawmode)``; tiles are plain tuples before Pillow 11."""
    tiles = []
    for tile in image.tile:
        args = change(tile[3]) if isinstance(tile[3], str) else (change(tile[3][0]), *tile[3][1:])
        tiles.append(tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args))
    image.tile = tiles


def _is_grey_with_alpha(image: Image.Image) -> bool:
    return [_rawmode(tile) for tile in image.tile] == ["LA;16B"]


def _is_planar(image: Image.Image) -> bool:
    return image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.PlanarConfiguration) == 2


def _lies_in_planes(image: Image.Image) -> bool:
    """Whether this is an uncompressed TIFF with one 16-bit plane a colour: Pillow would read a level as two pixels."""
    bits = set(image.tag_v2.get(ExifTags.Base.BitsPerSample, ())) if _is_planar(image) else set()
    return bits == {16} and {tile[0] for tile in image.tile} == {"raw"}


def _name_order(image: Image.Image) -> None:
    """Correct what Pillow gets wrong in a TIFF: 16-bit planes, and bytes that libtiff has swapped already."""
    if image.format == "TIFF" and image.tile[0][0] == "libtiff":
        _retile(image, lambda name: LIBTIFF.get(name, name))
    elif _lies_in_planes(image):
        if image.mode != "RGB":
            raise ValueError(f"16 bits a channel in planes of mode {image.mode} cannot be read: save it as PNG")
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        _retile(image, lambda band: f"{band};16{order}")


def _precision_of_jpeg_2000(image: Image.Image) -> int:
    """Return the bits of the first channel from the header of the code stream, 0 if the header is not found."""
    place = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**16)
    image.fp.seek(place)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + PRECISION] & 127) + 1 if 0 <= start < len(head) - PRECISION else 0
