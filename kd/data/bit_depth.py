"""Images of more than 8 bits a channel: which levels they hold, and how they become 256.

A detector of 12 bits writes files of 16, and nothing in such a file says that 4095 is white: who takes 65535 for white
keeps 16 levels of 4096. So a set has one ``White``, found from what is there (white.py) or said. Pillow has no mode for
colour of 16 bits and hands out the upper byte of every channel; a second decoding whose unpacker is told the other
byte order hands out the lower one. At the full range, up to 65535, the upper byte alone is taken, as it always was.

Black is 0. Transparency always has its full range. A file that says itself what its white is (PGM, JPEG 2000, a TIFF of
12 bits) is taken at its word, unless something was said of the whole set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

VERSION = 1  # raise it when the same deep file would give other pixels
FULL = 65535
GREY, COLOUR, COARSE = "grey", "colour", "coarse"  # COARSE: only the upper byte of its colours can be had
BLOCK = 2**18  # pixels that are scaled at a time: numbers of 8 bytes each
NATIVE = "L" if sys.byteorder == "little" else "B"
BOTH_BYTES = {f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA") for order in "LBN"}
LIBTIFF = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
LIBTIFF = LIBTIFF if NATIVE == "L" else {little: big for big, little in LIBTIFF.items()}
UPPER = {"RGBa;16L", "RGBa;16B", "RGBa;16N", "L;16B", "RGB;16", "SGI16"}
PRECISION = 42  # bytes from the start of a JPEG 2000 code stream to the first channel's


class White(NamedTuple):
    """The level that is shown as white."""

    value: float = FULL
    said: bool = False  # by data.white, so that levels of any kind have a meaning, and what is above is cut off


def depth_of(image: Image.Image) -> str:
    """GREY, COLOUR or COARSE of an image that is not loaded yet, "" where it has 8 bits a channel or fewer."""
    if image.mode.startswith("I") or image.mode == "F":
        return GREY
    if image.format == "JPEG2000":
        return COARSE if _precision_of_jpeg_2000(image) > 15 else ""  # below, the file itself says what white is
    if image.format == "PPM":  # as with JPEG 2000
        return (COLOUR if image.tile[0][0] == "ppm" else COARSE) if _largest_of_ppm(image) == FULL else ""
    found = set(map(_rawmode, image.tile))
    if found <= UPPER:
        return COARSE if found else ""
    if _is_planar(image) and image.tile[0][0] == "libtiff" and any(";16" in name for name in found):
        return COARSE  # libtiff's own unpackers for planes know one byte order
    return COLOUR if found == {"LA;16B"} or found <= BOTH_BYTES or _lies_in_planes(image) else ""


def own_white(image: Image.Image, white: White) -> White | None:
    """What is white in greys that say so themselves, in a file that is not loaded yet; None where it says nothing.

    Pillow scales what a PGM or JPEG 2000 says to 65535; what is said of a set, and holds for this file too, follows.
    """
    if image.format == "PPM" and 0 < _largest_of_ppm(image) < FULL:
        return White(white.value * FULL / _largest_of_ppm(image), True) if white.said else White()
    if image.format == "JPEG2000" and 8 < _precision_of_jpeg_2000(image) < 16:
        return White(white.value * 2 ** (16 - _precision_of_jpeg_2000(image)), True) if white.said else White()
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample) if image.format == "TIFF" else None
    return (white if white.said else White(4095)) if bits == (12,) else None


def load_in_8_bits(image: Image.Image, white: White) -> Image.Image:
    """Load ``image``, which is open and not loaded, and return it with 8 bits a channel, in any mode.

    Raises:
        ValueError: for greys of which nobody says what white is, and colours of which the lower byte cannot be had.
    """
    depth = depth_of(image)
    if depth == GREY:
        white = own_white(image, white) or white
    if depth == COARSE and white.value != FULL:
        raise ValueError("only the upper 8 of its 16 bits a channel can be read: save it as PNG")
    if depth == COLOUR and white.value != FULL:
        return _colour_in_8_bits(image, white)
    _name_order(image)
    image.load()
    return grey_in_8_bits(image, white) if depth == GREY else image


def grey_in_8_bits(image: Image.Image, white: White) -> Image.Image:
    """Scale greys of mode I, I;16 or F: 0 stays black, ``white`` becomes 255, each level the nearest of 256."""
    levels = np.asarray(image)
    low, high = levels.min(), levels.max()
    if white.said and not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"mode {image.mode} with values that are no numbers")
    if not white.said and (image.mode == "F" or low < 0 or high > FULL):
        raise ValueError(
            f"mode {image.mode} with values in [{low}, {high}]: no white point is defined, say data.white=<its value>"
        )
    return Image.fromarray(to_8_bits(levels, white))


def to_8_bits(levels: np.ndarray, white: White) -> np.ndarray:
    """Return uint8 of ``levels`` [H, W] of any kind of number."""
    shown = np.empty(levels.shape, np.uint8)
    rows = max(1, BLOCK // levels.shape[1])
    for top in range(0, len(levels), rows):
        part = np.clip(levels[top : top + rows].astype(np.float64), 0, white.value)
        shown[top : top + rows] = part * 255 / white.value + 0.5
    return shown


def extremes(image: Image.Image) -> tuple[float, float]:
    """Load ``image``, which is open and not loaded, and return the least and the largest level of its colours."""
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
    """Yield uint16 [H, W] of each colour of an image whose depth is COLOUR, which is loaded here."""
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
        lower = Image.open(file, formats=[image.format])  # not to be closed: that would close the file
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
    """The largest value that the header of a PGM or PPM names, 0 where it names none or 255."""
    args = image.tile[0][3]
    return args[1] if isinstance(args, tuple) and len(args) == 2 else 0


def _rawmode(tile: Any) -> str:
    decoder, *_, args = tile
    return decoder if decoder == "SGI16" else str(args[0] if isinstance(args, tuple) and args else args)


def _lower_byte(rawmode: str) -> str:
    """The unpacker that takes the lower byte of each channel where ``rawmode`` takes the upper one."""
    order = NATIVE if rawmode[-1] == "N" else rawmode[-1]
    return rawmode[:-1] + ("B" if order == "L" else "L")


def _retile(image: Image.Image, change: Any) -> None:
    """Put ``change(rawmode)`` in place of every unpacker; tiles are plain tuples before Pillow 11."""
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
    """Whether this is a TIFF of one plane of 16 bits a colour, uncompressed: Pillow would read two pixels of each."""
    bits = set(image.tag_v2.get(ExifTags.Base.BitsPerSample, ())) if _is_planar(image) else set()
    return bits == {16} and {tile[0] for tile in image.tile} == {"raw"}


def _name_order(image: Image.Image) -> None:
    """Tell Pillow what it gets wrong of a TIFF: planes of 16 bits, and that libtiff has swapped the bytes already."""
    if image.format == "TIFF" and image.tile[0][0] == "libtiff":
        _retile(image, lambda name: LIBTIFF.get(name, name))
    elif _lies_in_planes(image):
        if image.mode != "RGB":
            raise ValueError(f"16 bits a channel in planes of mode {image.mode} cannot be read: save it as PNG")
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        _retile(image, lambda band: f"{band};16{order}")


def _precision_of_jpeg_2000(image: Image.Image) -> int:
    """Bits of the first channel, from the header of the code stream; 0 where that is not found."""
    place = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**16)
    image.fp.seek(place)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + PRECISION] & 127) + 1 if 0 <= start < len(head) - PRECISION else 0
