"""Images of more than 8 bits keep their levels; one scale holds for a data set, and the run reports it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from kd.data.bit_depth import White
from kd.data.datasets.folder import load
from kd.data.readers.images import decode_into, read_image
from kd.data.white_level import is_deep
from kd.runtime.user_warnings import KdWarning
from kd.store.store import Store
from tests.conftest import open_data
from tests.data import deep
from tests.data.test_folder import grow as grow_8_bits

SIDE = 12
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 4096, (SIDE, SIDE, 1)).astype(np.uint16)
COLOUR = RANDOM.integers(0, 4096, (SIDE, SIDE, 3)).astype(np.uint16)
OPAQUE = np.full_like(GREY, 65535)
GREY_ALPHA, COLOUR_ALPHA = np.concatenate([GREY, OPAQUE], 2), np.concatenate([COLOUR, OPAQUE], 2)


def saved(path, data):
    path.write_bytes(data)
    return str(path)


def eight(levels, white):
    """Return the expected pixels of [H, W, C] without alpha."""
    return np.broadcast_to(np.round(levels / white * 255), (*levels.shape[:2], 3)).astype(int)


FILES = {
    "grey.png": (deep.png(GREY), GREY),
    "grey_interlaced.png": (deep.png(GREY, interlaced=True), GREY),
    "grey_alpha.png": (deep.png(GREY_ALPHA), GREY),
    "grey_alpha_interlaced.png": (deep.png(GREY_ALPHA, interlaced=True), GREY),
    "colour.png": (deep.png(COLOUR), COLOUR),
    "colour_interlaced.png": (deep.png(COLOUR, interlaced=True), COLOUR),
    "colour_alpha.png": (deep.png(COLOUR_ALPHA), COLOUR),
    "grey.pgm": (deep.ppm(GREY), GREY),
    "grey_plain.pgm": (deep.ppm(GREY, plain=True), GREY),
    "colour.ppm": (deep.ppm(COLOUR), COLOUR),
    "grey_that_says_its_white.pgm": (deep.ppm(GREY, 4095), GREY),
    "colour_that_says_its_white.ppm": (deep.ppm(COLOUR, 4095), COLOUR),
    **{
        f"{name}_{order}_{packed}.tif": (deep.tiff(levels, order, packed=packed, **how), levels[..., : 1 + 2 * colour])
        for order in "<>"
        for packed in (False, True)
        for name, levels, colour, how in (
            ("grey", GREY, False, {}),
            ("grey_i2", GREY, False, {"dtype": "i2"}),
            ("grey_i4", GREY, False, {"dtype": "i4"}),
            ("grey_f4", GREY, False, {"dtype": "f4"}),
            ("colour", COLOUR, True, {}),
            ("colour_alpha", COLOUR_ALPHA, True, {"extra": 2}),
            ("colour_more", COLOUR_ALPHA, True, {"extra": 0}),
        )
    },
    "planes_<.tif": (deep.tiff(COLOUR, "<", planar=True), COLOUR),
    "planes_>.tif": (deep.tiff(COLOUR, ">", planar=True), COLOUR),
}


@pytest.mark.parametrize("name", FILES)
def test_twelve_bits_in_a_file_of_sixteen_become_the_nearest_of_256(tmp_path, name):
    data, levels = FILES[name]
    path = saved(tmp_path / name, data)
    assert (read_image(path, SIDE, White(4095, given=True)) == eight(levels, 4095)).all()
    if "says_its_white" in name:  # no setting is needed
        assert (read_image(path, SIDE) == eight(levels, 4095)).all()
    assert is_deep(str(path)) or name == "colour_that_says_its_white.ppm"


@pytest.mark.parametrize("name", [name for name in FILES if "planes" not in name and "f4" not in name])
def test_at_the_full_range_nothing_is_different(tmp_path, name):
    """Pixels as in earlier versions: greys are rounded, colours use the upper byte."""
    image, levels = Image.open(io.BytesIO(FILES[name][0])), FILES[name][1]
    if image.mode.startswith("I"):
        expected = eight(levels, 4095 if "says" in name else 65535)
    else:
        expected = np.asarray(image.convert("RGB"))
    assert (read_image(saved(tmp_path / name, FILES[name][0]), SIDE) == expected).all()


REFUSED = {
    "planes_packed.tif": (deep.tiff(COLOUR, planar=True, packed=True), "only the upper 8 of its 16 bits"),
    "premultiplied.tif": (deep.tiff(COLOUR_ALPHA, extra=1), "only the upper 8 of its 16 bits"),
    "planes_alpha.tif": (deep.tiff(COLOUR_ALPHA, planar=True, extra=2), "in planes of mode RGBA cannot be read"),
    "plain.ppm": (deep.ppm(COLOUR, plain=True), "only the upper 8 of its 16 bits"),
    "nan.tif": (deep.tiff(np.full((9, 9, 1), np.nan), dtype="f4"), "values that are not finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_lose_levels_is_refused_with_its_reason(tmp_path, name):
    data, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        read_image(saved(tmp_path / name, data), SIDE, White(4095, given=True))
    assert is_deep(str(tmp_path / name))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_greys_without_a_white_ask_for_the_setting(tmp_path, mode):
    Image.new(mode, (9, 9), 70_000).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=f"mode {mode} with values in .70000.* set data.white="):
        read_image(str(tmp_path / "x.tif"), 9)
    assert (read_image(str(tmp_path / "x.tif"), 9, White(140_000, given=True)) == 128).all()


def test_values_beyond_a_given_white_are_clipped(tmp_path):
    levels = np.array([[[-5], [0], [50], [100], [101], [2000]]], "f4").repeat(6, 0)
    path = saved(tmp_path / "x.tif", deep.tiff(levels, dtype="f4"))
    assert read_image(path, 6, White(100, given=True))[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]


def test_a_deep_image_is_turned_and_laid_on_white_like_any_other(tmp_path):
    levels = np.zeros((8, 8, 3), np.uint16)
    levels[:, :4, 0] = 4095  # red on the left; a quarter turn clockwise brings it to the top
    pixels = read_image(saved(tmp_path / "x.tif", deep.tiff(levels, orientation=6)), 8, White(4095))
    assert (pixels[:4] == (255, 0, 0)).all() and (pixels[4:] == 0).all()
    clear = np.concatenate([levels, np.zeros((8, 8, 1), np.uint16)], 2)
    assert (read_image(saved(tmp_path / "x.png", deep.png(clear)), 8, White(4095)) == 255).all()


def grow(root, top, write=deep.png, channels=1, split=("train", "test")):
    """Write two classes of different files with levels in [0, top]; only the test split holds ``top``."""
    generator = np.random.default_rng(1)
    for number, name in enumerate(f"{part}/{c}" for part in split for c in "ab"):
        (root / name).mkdir(parents=True)
        for file in range(4):
            levels = generator.integers(0, max(1, top // 2), (SIDE, SIDE, channels))
            levels[0, 0, 0] = top if number == 3 else 0
            saved(root / name / f"{file}.x", write(levels.astype(np.uint16)))
    return root


@pytest.fixture
def opened(tmp_path):
    store = Store(tmp_path / "store")
    return lambda root, **settings: open_data(load, store, **{"root": str(root), "image_size": SIDE, **settings})


@pytest.mark.parametrize(
    ("top", "white"),
    [(1, 255), (255, 255), (256, 1023), (1023, 1023), (4000, 4095), (4096, 16383), (16384, 65535), (65535, 65535)],
)
@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_one_white_is_found_for_the_whole_set(tmp_path, opened, capsys, top, white, kind):
    channels = 1 if kind == "grey" else 3
    dataset = opened(grow(tmp_path / "tree", top, channels=channels))
    line = f"16 files hold more than 8 bits a channel, with values up to {top:,}: {white:,} is white"
    assert f"folder: {line} (detected; data.white sets another)\n" in capsys.readouterr().out
    assert dataset.notes["white"] == white and dataset.notes["grey_levels"].startswith(line)
    assert dataset.white == White(white)
    corner = dataset.images[dataset.test[-1], 0, 0]
    assert corner[0] == (top >> 8 if kind == "colour" and white == 65535 else round(255 * top / white))


def test_the_levels_of_twelve_bits_are_those_of_the_same_numbers_times_sixteen(tmp_path, opened):
    def times_16(levels):
        return deep.png(levels * 16 + levels // 256)

    one = opened(grow(tmp_path / "one", 4095))
    other = opened(grow(tmp_path / "other", 4095, times_16))
    assert len(np.unique(one.images)) > 120
    assert np.abs(one.images.astype(int) - other.images).max() <= 1


def test_the_same_scale_holds_when_the_set_is_opened_again_and_for_new_images(tmp_path, opened, capsys):
    root = grow(tmp_path / "tree", 4000)
    first = opened(root)
    capsys.readouterr()
    again = opened(root, seed=3)
    assert capsys.readouterr().out == "" and again.white == first.white and again.notes == first.notes
    for name in ("a", "b"):
        path = sorted((root / "test" / name).iterdir())[0]
        row = first.test[0 if name == "a" else 4]
        assert (read_image(str(path), SIDE, again.white) == again.images[row]).all()
    (meta,) = (tmp_path / "store" / "data").glob("*/meta.json")
    assert json.loads(meta.read_text())["white"] == {"value": 4095, "said": False}


def test_a_given_white_holds(tmp_path, opened, capsys):
    root = grow(tmp_path / "tree", 4000)
    detected, given = opened(root), opened(root, white=4095)
    assert given.fingerprint == detected.fingerprint  # the same white gives the same pixels
    other = opened(root, white=2000)
    assert (
        "2,000 is white (data.white); values below 0 or above white are clipped in 4 of them" in capsys.readouterr().out
    )
    assert other.white == White(2000, given=True) and other.fingerprint != detected.fingerprint
    assert other.images.max() == 255 and opened(root, white=8000).images.max() == 128
    for wrong in (0, -1, True, "white", float("inf")):
        with pytest.raises(ValueError, match="^data.white must be a number above 0"):
            opened(root, white=wrong)


def test_float_greys_need_a_given_white(tmp_path, opened):
    root = grow(tmp_path / "tree", 1000, lambda levels: deep.tiff(levels / 1000, dtype="f4"))
    with pytest.raises(ValueError, match="(?s)16 of 16 files cannot be read.*mode F .*set data.white="):
        opened(root)
    assert opened(root, white=1).images.max() == 255 and opened(root, white=1.0).notes["white"] == 1


def test_one_file_that_is_far_brighter_than_the_others_gives_a_warning(tmp_path, opened):
    root = grow(tmp_path / "tree", 4000)
    saved(root / "train/a/stuck.x", deep.png(np.full((SIDE, SIDE, 1), 65535, np.uint16)))
    with pytest.warns(
        KdWarning, match="half of the files .* stay below 4,096, but white is 65,535. data.white=4095 keeps"
    ):
        opened(root)


@pytest.mark.filterwarnings("error")
def test_a_set_of_8_bits_keeps_its_key_its_pixels_and_its_fingerprint(tmp_path, opened):
    root = grow_8_bits(tmp_path / "tree", {"train/dog": 12, "train/cat": 8, "test/dog": 3, "test/cat": 4})
    dataset = opened(root)
    assert dataset.fingerprint == "e6efa9daaf29336f300d89238207dbf6fb8d489ef0f2e66deab96c90d9982ca8"
    (meta,) = (tmp_path / "store" / "data").glob("*/meta.json")
    assert set(json.loads(meta.read_text())) == {"name", "classes", "train_count", "notes", "content"}
    with pytest.warns(KdWarning, match="data.white=4095: no file .* so it has no effect"):
        assert opened(root, white=4095).fingerprint == dataset.fingerprint
    assert len(list((tmp_path / "store" / "data").iterdir())) == 1


@pytest.mark.filterwarnings("error")
def test_headers_are_looked_at_once(tmp_path, opened, monkeypatch):
    root, read = grow_8_bits(tmp_path / "tree", {"a": 4, "b": 4}), []
    monkeypatch.setattr("kd.data.white_level.is_deep", lambda path: read.append(path))
    opened(root)
    opened(root, image_size=9)
    assert len(read) == 8


def test_images_of_8_bits_among_deep_ones_keep_their_white(tmp_path, opened):
    root = grow(tmp_path / "tree", 4000)
    Image.new("L", (SIDE, SIDE), 77).save(root / "train/a/0.png")
    assert (opened(root).images[0] == 77).all()


@pytest.mark.filterwarnings("error")
def test_files_that_say_their_white_themselves_are_taken_at_their_word(tmp_path, opened):
    root = grow(tmp_path / "tree", 900, lambda levels: deep.ppm(levels, largest=1000))
    dataset = opened(root)
    assert dataset.images.max() == round(255 * 0.9) and "white" not in dataset.notes
    assert dataset.notes["grey_levels"].endswith(
        "16 files hold more than 8 bits a channel; each states its own white, or is refused"
    )
    assert opened(root, white=900).images.max() == 255  # in the file's own numbers


def test_a_deep_file_that_is_bad_is_named_and_does_not_hide_the_white(tmp_path, opened):
    root = grow(tmp_path / "tree", 4000)
    whole = (root / "train/a/0.x").read_bytes()
    (root / "train/a/cut.x").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="1 of 17 files"):
        opened(root)
    dataset = opened(root, on_bad_file="skip")
    assert dataset.notes["bad_files"] == 1 and dataset.notes["white"] == 4095


def test_decode_into_takes_the_white(tmp_path):
    images = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    decode_into(images, {"x": saved(tmp_path / "x.png", deep.png(GREY))}, "error", White(4095))
    assert (images[0] == eight(GREY, 4095)).all()
