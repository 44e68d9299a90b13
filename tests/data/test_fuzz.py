"""Damaged files of every usual format, and random bytes: each gives an image or a reason, never anything else."""

from __future__ import annotations

import faulthandler
import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kd.data.bit_depth import White
from kd.data.readers import images as readers_images
from kd.data.white_level import find_white
from tests.data import deep
from tests.data.memory import growth

pytestmark = pytest.mark.filterwarnings("ignore")  # from images that are read outside decode_into
SIZE = 16
PIXELS = 2**20  # a low limit: an image that passes it shows in the memory at once
MEMORY = 100  # megabytes that the worst input may add: 33 bytes a pixel, and a margin for malloc
LENGTHS = (0, 1, 2, 8, 255, 4096, 20_000, 65_535, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def written(form, image, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def whole_files():
    noise = np.random.default_rng(0).integers(0, 256, (13, 19, 4), np.uint8)
    rgb, rgba, other = Image.fromarray(noise[..., :3]), Image.fromarray(noise), Image.new("RGB", (19, 13), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "an image"
    frames = {"save_all": True, "append_images": [other]}
    return [
        written("JPEG", rgb, exif=exif),
        written("JPEG", rgb, progressive=True),
        written("JPEG", rgb.convert("CMYK")),
        written("PNG", rgba, exif=exif),
        written("PNG", rgb.convert("P"), transparency=3),
        written("PNG", Image.fromarray(noise[..., 0].astype(np.uint16) * 257)),
        written("PNG", rgb, **frames),
        written("GIF", rgb, **frames),
        written("WEBP", rgb, exif=exif),
        written("WEBP", rgba, lossless=True, **frames),
        written("BMP", rgb),
        written("BMP", rgb.convert("P")),
        written("TIFF", rgb, exif=exif),
        written("TIFF", rgb, compression="tiff_lzw"),
        written("TIFF", rgb, compression="jpeg"),
        written("TIFF", rgba, compression="tiff_adobe_deflate"),
        written("TIFF", rgb.convert("1"), compression="group4"),
        written("JPEG2000", rgb),
        written("PPM", rgb),
        written("TGA", rgba, compression="tga_rle"),
        written("PCX", rgb),
        written("SGI", rgb, rle=True),
        *deep_files(),
    ]


def deep_files():
    levels = np.random.default_rng(0).integers(0, 4096, (13, 19, 4)).astype(np.uint16)
    return [
        deep.png(levels),
        deep.png(levels[..., :2], interlaced=True),
        deep.ppm(levels[..., :3]),
        deep.tiff(levels[..., :3], packed=True),
        deep.tiff(levels[..., :3], ">", planar=True),
        deep.tiff(levels[..., :1], dtype="f4"),
    ]


FILES = whole_files()


@st.composite
def damaged(draw):
    """A valid file with a few damages, most of them in the headers, after the signature of the format."""
    data = bytearray(draw(st.sampled_from(FILES)))

    def place():
        last = max(0, len(data) - 1)
        first, end = draw(st.sampled_from(((12, 60), (12, 60), (12, 250), (12, 10**9), (0, 10**9))))
        return draw(st.integers(min(first, last), min(end, last)))

    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 2, 3, 5)))):
        accident = draw(
            st.sampled_from(("flip", "byte", "length", "length", "insert", "cut", "drop", "repeat", "splice"))
        )
        at = place()
        if accident == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif accident == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif accident in ("length", "insert"):
            kind, value = draw(st.sampled_from((">I", "<I", ">H", "<H"))), draw(st.sampled_from(LENGTHS))
            packed = struct.pack(kind, value % 2 ** (8 * struct.calcsize(kind)))
            data[at : at + (len(packed) if accident == "length" else 0)] = packed
        elif accident == "cut":
            del data[at:]
        elif accident == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        elif accident == "repeat":
            data[at:at] = data[place() :][:64] * draw(st.integers(1, 20))
        elif accident == "splice":
            other = draw(st.sampled_from(FILES))
            start = draw(st.integers(0, len(other) - 1))
            data[at:at] = other[start : start + draw(st.integers(1, 200))]
    return with_checksums(data) if data[:4] == b"\x89PNG" else bytes(data)


def with_checksums(data):
    """Return a PNG with correct checksums, so that the decoder reads the damaged chunks."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4], "big")
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


@st.composite
def rubbish(draw):
    """Any bytes, alone or after the first bytes of a format."""
    start = draw(st.sampled_from((b"", *(file[:16] for file in FILES))))
    return start + draw(st.binary(max_size=300))


@pytest.fixture
def survives(tmp_path, monkeypatch):
    """Return ``survives(data)``, which checks that bytes give an image or a reason, in little time and memory.

    The bytes are in a file during the check, so that they are still there if the process dies.
    """
    monkeypatch.setattr(readers_images, "MAX_PIXELS", PIXELS)
    path, images = tmp_path / "tried", np.zeros((1, SIZE, SIZE, 3), np.uint8)
    find_white("set", {"whole": str(path)}, 4095)
    readers_images.decode_into(images, {"whole": str(path)}, "skip")  # imports of the first call do not count
    faulthandler.dump_traceback_later(300, exit=True)  # the only way out of a C decoder that does not end

    def tried(data):
        path.write_bytes(data)
        began, grown = time.perf_counter(), growth()
        white = find_white("set", {"name": str(path)}, 4095).white
        kept, notes = readers_images.decode_into(images, {"name": str(path)}, "skip", white)
        assert white == White(4095, given=True)
        assert time.perf_counter() - began < 10
        assert grown() < MEMORY
        if len(kept):
            assert set(notes) <= {"shapes"}
        else:
            (line,) = notes["bad_file_names"]
            reason = line.removeprefix("name: ")
            assert 5 < len(reason) <= 201 and reason.replace("\u200d", "").isprintable()
        try:
            pixels = readers_images.read_image(str(path), SIZE, white)
        except Exception:
            assert not len(kept)
        else:
            assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.uint8 and len(kept)

    yield tried
    faulthandler.cancel_dump_traceback_later()


some = settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(some, max_examples=20_000, derandomize=False, database=None, print_blob=True)


@some
@given(damaged())
def test_damaged_files(survives, data):
    survives(data)


@some
@given(rubbish())
def test_rubbish(survives, data):
    survives(data)


@pytest.mark.slow
@many
@given(st.one_of(damaged(), damaged(), rubbish()))
def test_many_damaged_files(survives, data):
    survives(data)
