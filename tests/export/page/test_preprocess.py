"""The page's preprocessing equals Python's: to the pixel where both decode alike."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kd.augment.chain import centre_view
from kd.data.sizing import FITS, to_square
from kd.export.page import TALL_FIRST
from kd.inference.description import Description
from kd.inference.preprocess import preprocess, stored_pixels

TALL = json.dumps(TALL_FIRST)
DESCRIPTION = Description(network={"network": {}}, classes=("a", "b"), image_size=24, stored_size=24)
# numbers of a typed array as text, because JSON would take long
TEXT = "(array => { const bytes = new Uint8Array(array.buffer); let text = ''; " + (
    "for (let k = 0; k < bytes.length; k += 4096) text += String.fromCharCode(...bytes.subarray(k, k + 4096)); "
    "return btoa(text); })"
)


def run(browser, script: str, dtype=np.uint8) -> np.ndarray:
    """Return the typed array of a script that may use the functions of the page's modules."""
    loaded = 'const m = { ...await import("./preprocess.js"), ...await import("./resample.js") };'
    text = browser.run(f"(async () => {{ {loaded} return {TEXT}({script}); }})()")
    return np.frombuffer(base64.b64decode(text), dtype)


def read(name: str) -> str:
    return f'await m.decode(await (await fetch("{name}")).blob())'


def noise(width: int, height: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Coarse and fine noise, and pure black and white, where rounding is clipped."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 9 + 1, width // 9 + 1, channels)).repeat(9, 0).repeat(9, 1)
    fine = random.integers(-40, 41, (height, width, channels))
    return np.clip(coarse[:height, :width] * 1.2 - 25 + fine, 0, 255).astype(np.uint8)


SHAPES = [(24, 24), (25, 24), (24, 25), (31, 17), (7, 24), (23, 180), (301, 200), (200, 301), (640, 427), (9, 5)]
SHAPES += [(150, 150), (1, 40), (40, 1), (1, 1), (1201, 77), (77, 1201), (60, 99), (99, 60), (64, 65)]


@pytest.mark.parametrize("fit", FITS)
def test_squares_equal_pillow_s_to_the_pixel(browser, scripts, fit):
    for seed, shape in enumerate(SHAPES):
        image = Image.fromarray(noise(*shape, seed))
        image.save(scripts / "noise.png")
        for size in (24, 33, 64):
            found = run(browser, f'm.toSquare({read(f"noise.png?{fit}{seed}")}, {size}, "{fit}", {TALL}).data')
            expected = np.asarray(to_square(image, size, fit))
            assert np.array_equal(found.reshape(size, size, 3), expected), (shape, size)


def test_half_pixels_of_black_bars_are_rounded_as_in_python(browser, scripts):
    for width, height, size in ((20, 9, 10), (20, 11, 10), (40, 25, 12), (8, 3, 20), (3, 8, 20)):
        image = Image.fromarray(noise(width, height))
        image.save(scripts / "bars.png")
        found = run(browser, f'm.toSquare({read(f"bars.png?{width}{height}")}, {size}, "pad", {TALL}).data')
        assert np.array_equal(found.reshape(size, size, 3), np.asarray(to_square(image, size, "pad")))


@pytest.mark.parametrize(("stored", "size", "crop_pct"), [(40, 32, 1), (40, 32, 0.875), (33, 33, 0.5), (50, 24, 0.31)])
def test_the_centre_view_equals_torch_s(browser, scripts, stored, size, crop_pct):
    pixels = noise(stored, stored)
    Image.fromarray(pixels).save(scripts / "stored.png")
    script = f"m.toInput({read(f'stored.png?{stored}{crop_pct}')}, {size}, {crop_pct})"
    found = run(browser, script, np.float32).reshape(1, 3, size, size)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    assert np.abs(found - centre_view(image, size, crop_pct).numpy()).max() < 1e-6


def whole(browser, name: str, description: Description) -> np.ndarray:
    """Return a file as the page's network sees it, [1, 3, S, S]."""
    names = ("image_size", "stored_size", "fit", "crop_pct", "channels")
    page = json.dumps({"tall_first": TALL_FIRST} | {name: getattr(description, name) for name in names})
    script = f'await m.preprocess(await (await fetch("{name}")).blob(), {page})'
    return run(browser, script, np.float32).reshape(1, 3, description.image_size, description.image_size)


def assert_equal(browser, path, description: Description = DESCRIPTION, apart: float = 0) -> None:
    found = whole(browser, path.name, description)
    assert np.abs(found - preprocess(path, description).numpy()).max() <= apart + 1e-7


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "RGB with a transparent colour", "P with transparency"])
def test_modes_of_png(browser, scripts, mode):
    image, path = Image.fromarray(noise(50, 37)), scripts / f"{mode.replace(' ', '-')}.png"
    image.putalpha(Image.fromarray(noise(50, 37, 1, 1)[..., 0]))
    if mode == "RGB with a transparent colour":
        image = image.convert("RGB")
        image.save(path, transparency=image.getpixel((25, 18)))
    elif mode == "P with transparency":
        image.convert("RGB").quantize(20).save(path, transparency=bytes(range(0, 240, 12)))
    else:
        image.convert("RGB" if mode in ("P", "1", "L") else "RGBA").convert(mode).save(path)
    assert_equal(browser, path)


def test_transparency_lies_over_white_to_the_level(browser, scripts):
    """All pairs of a level and an opacity."""
    level, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    Image.fromarray(np.dstack([level, level.T, 255 - level, alpha])).save(scripts / "alpha.png")
    found = run(browser, f"({read('alpha.png')}).data").reshape(256, 256, 3)
    expected = stored_pixels(scripts / "alpha.png", replace(DESCRIPTION, stored_size=256, image_size=256))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("fit", FITS)
def test_grey_data_sets(browser, scripts, fit):
    Image.fromarray(noise(90, 61)).save(scripts / "colours.png")
    assert_equal(browser, scripts / "colours.png", replace(DESCRIPTION, channels=1, fit=fit))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(browser, scripts, orientation):
    """Smooth, because decoders of JPEG differ a little where neighbouring colours differ."""
    small = Image.fromarray(noise(4, 3, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = scripts / f"turned{orientation}.jpg"
    small.resize((300, 200), Image.Resampling.BICUBIC).save(path, quality=95, exif=exif)
    assert_equal(browser, path, apart=2 / 255)


def test_photographs_with_fine_colours(browser, scripts):
    """Both decode with libjpeg-turbo; what may differ is how colours of half the size are enlarged."""
    Image.fromarray(noise(300, 200)).save(scripts / "fine.jpg", quality=85)
    assert_equal(browser, scripts / "fine.jpg", apart=3 / 255)


def test_colour_profiles_are_ignored(browser, scripts):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red = wide.index(b"rXYZ", 128)  # the table says where the primary of red lies: halve it
    place = int.from_bytes(wide[red + 4 : red + 8], "big") + 8
    wide[place : place + 4] = (int.from_bytes(wide[place : place + 4], "big") // 2).to_bytes(4, "big")
    for name, content in {"none": None, "wide": bytes(wide), "damaged": profile[:200]}.items():
        path = scripts / f"profile-{name}.png"
        Image.fromarray(noise(24, 24)).save(path, icc_profile=content)
        assert_equal(browser, path)


def test_a_large_photograph_is_read_in_strips(browser, scripts):
    """Some browsers give no pixels of a canvas that is larger than 16 million."""
    small = noise(61, 47)
    Image.fromarray(small).resize((5000, 3700), Image.Resampling.NEAREST).save(scripts / "large.png", compress_level=1)
    assert_equal(browser, scripts / "large.png")


def test_a_deep_png_is_recognised(browser, scripts):
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(scripts / "deep.png")
    Image.fromarray(noise(20, 30)).save(scripts / "usual.png")
    (scripts / "short.png").write_bytes(b"\x89PNG")
    for name, expected in {"deep.png": True, "usual.png": False, "short.png": False}.items():
        script = f"""import("./preprocess.js").then(async (m) => m.isDeep(await (await fetch("{name}")).blob()))"""
        assert browser.run(script) is expected
