"""Images of every mode become the right RGB pixels, and every bad file is named."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kd.data.bit_depth import White, grey_in_8_bits
from kd.data.readers.images import MemoryGate, decode_into, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(path, image, **options):
    image.save(path, **options)
    return str(path)


def close(pixels, colour, tolerance=0):
    return np.abs(pixels.astype(int) - np.array(colour)).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("RGB", (10, 200, 30), "png", (10, 200, 30)),
        ("L", 77, "png", (77, 77, 77)),
        ("1", 1, "png", (255, 255, 255)),
        ("LA", (0, 255), "png", (0, 0, 0)),
        ("LA", (0, 0), "png", (255, 255, 255)),  # transparent: white
        ("RGBA", (255, 0, 0, 255), "png", RED),
        ("RGBA", (255, 0, 0, 0), "png", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), "png", (204, 204, 204)),  # a fifth of black over white
        ("CMYK", (0, 255, 255, 0), "tif", RED),
        ("CMYK", (0, 255, 255, 0), "jpg", RED),  # in JPEG, stored inverted as Adobe does it
        ("I;16", 257 * 100, "png", (100, 100, 100)),  # Pillow's own conversion would give 255
        ("I;16", 65535, "png", (255, 255, 255)),
        ("I;16", 257 * 3, "tif", (3, 3, 3)),
        ("I", 257 * 100, "tif", (100, 100, 100)),
    ],
)
def test_every_mode_gives_its_colour(tmp_path, mode, colour, suffix, expected):
    path = saved(tmp_path / f"x.{suffix}", Image.new(mode, (16, 16), colour))
    pixels = read_image(path, 16)
    assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
    assert close(pixels, expected, tolerance=2 if suffix == "jpg" else 0)


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLUE])
    image.paste(0, (0, 0, 8, 16))
    pixels = read_image(saved(tmp_path / "x.png", image, transparency=0), 16)
    assert close(pixels[:, :8], (255, 255, 255)) and close(pixels[:, 8:], BLUE)


def test_float_greys_are_refused_because_white_is_not_defined(tmp_path):
    path = saved(tmp_path / "x.tif", Image.new("F", (16, 16), 0.5))
    with pytest.raises(ValueError, match="mode F"):
        read_image(path, 16)


def test_exif_orientation_is_obeyed(tmp_path):
    image = Image.new("RGB", (20, 10), BLUE)
    image.paste(RED, (0, 0, 10, 10))  # stored with red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise brings red to the top
    pixels = read_image(saved(tmp_path / "x.png", image, exif=exif), 10)
    assert close(pixels[:4], RED) and close(pixels[6:], BLUE)


def test_resizing_squashes_and_averages(tmp_path):
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: sampling without antialiasing would give black or white
    pixels = read_image(saved(tmp_path / "x.png", Image.fromarray(stripes)), 8)
    assert pixels.shape == (8, 8, 3) and close(pixels, (128, 128, 128), tolerance=8)


def test_an_image_of_the_right_size_is_not_resampled(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (read_image(saved(tmp_path / "x.png", Image.fromarray(noise)), 16) == noise).all()


@pytest.fixture
def mixed(tmp_path):
    """Good and bad files in turn, {label: path}; the label of a good one holds its grey value."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    jpeg = saved(tmp_path / "whole.jpg", Image.fromarray(noise))
    data = (tmp_path / "whole.jpg").read_bytes()
    files = {"truncated": tmp_path / "t.jpg", "empty": tmp_path / "e.jpg", "text": tmp_path / "x.png"}
    files["truncated"].write_bytes(data[: len(data) // 2])
    files["empty"].write_bytes(b"")
    files["text"].write_text("I am no image")
    greys = {f"good {grey}": grey for grey in (10, 20, 30)}
    for label, grey in greys.items():
        files[label] = tmp_path / f"{grey}.png"
        saved(files[label], Image.new("L", (16, 16), grey))
    order = ["truncated", "good 10", "empty", "good 20", "text", "good 30"]
    return {label: str(files[label]) for label in order} | {"whole": jpeg}


def test_one_error_names_every_bad_file(mixed):
    with pytest.raises(ValueError) as raised:
        decode_into(np.zeros((7, 16, 16, 3), np.uint8), mixed, "error")
    message = str(raised.value)
    assert message.startswith("3 of 7 files") and "on_bad_file=skip" in message
    assert "truncated: image file is truncated" in message
    assert "empty: the file is empty" in message and "text: not an image" in message
    assert "good" not in message


def test_skip_moves_the_good_rows_together_in_order(mixed):
    images = np.zeros((7, 16, 16, 3), np.uint8)
    kept, notes = decode_into(images, mixed, "skip")
    assert kept.tolist() == [1, 3, 5, 6]
    assert images[:3, 0, 0, 0].tolist() == [10, 20, 30]
    assert (images[3] == read_image(mixed["whole"], 16)).all()
    assert notes["bad_files"] == 3 and notes["bad_file_names"][1] == "empty: the file is empty"


def test_every_16_bit_grey_becomes_the_nearest_of_256():
    greys = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert (np.asarray(grey_in_8_bits(Image.fromarray(greys), White())) == np.round(greys / 257)).all()


def test_room_is_given_to_as_many_as_fit_and_to_a_large_one_alone():
    gate, inside, seen = MemoryGate(10), [], []

    def enter(amount):
        with gate(amount):
            inside.append(amount)
            seen.append(list(inside))
            time.sleep(0.01)
            inside.remove(amount)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, [4, 4, 4, 99, 4, 1, 10, 3, 3, 3] * 2))
    assert len(seen) == 20 and gate.taken == 0
    assert all(sum(each) <= 10 or each == [99] for each in seen) and any(len(each) > 1 for each in seen)
