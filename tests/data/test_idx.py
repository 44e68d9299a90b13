"""IDX files, gzipped or not, under every name of the mirrors; damage is an error, never read as pixels."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd.data.readers.idx import STEMS, find_idx, read_idx, read_splits


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return header + array.tobytes()


def fill(folder, suffix="", dot=False):
    """Write 6 training and 2 test images of 4 x 3 pixels."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, shape, np.uint8) for shape in ((6, 4, 3), (6,), (2, 4, 3), (2,))]
    for stem, array in zip(STEMS, arrays, strict=True):
        name = (stem.replace("-idx", ".idx") if dot else stem) + suffix
        (folder / name).write_bytes(gzip.compress(idx(array), mtime=0) if suffix else idx(array))
    return arrays


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_both_splits_are_found_and_read(tmp_path, suffix, dot):
    arrays = fill(tmp_path / "raw", suffix, dot)
    train, test = read_splits(find_idx([tmp_path, tmp_path / "raw"]))
    for array, read in zip(arrays, (train.images[..., 0], train.labels, test.images[..., 0], test.labels), strict=True):
        assert (array == read).all() and array.shape == read.shape


def test_a_folder_with_a_missing_file_does_not_count(tmp_path):
    fill(tmp_path / "raw")
    (tmp_path / "raw" / STEMS[3]).unlink()
    assert find_idx([tmp_path / "raw"]) is None


@given(st.binary(max_size=40), st.integers(0, 60), st.booleans())
@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_an_array_or_a_reason(tmp_path, rubbish, at, packed):
    whole = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))
    whole = gzip.compress(whole, mtime=0) if packed else whole
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(whole[:at] + rubbish + whole[at + len(rubbish) :])
    try:
        assert read_idx(path, 2).dtype == np.uint8
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", b"", "starts with nothing"),
        ("x", b"<html>not found</html>", "not an IDX file"),
        ("x", b"\x00\x00\x0d\x02" + b"\x00" * 8, "not an IDX file of unsigned bytes"),  # floats
        ("x", idx(np.zeros(9, np.uint8)), "has 1 dimensions but 2 are expected"),  # labels in place of images
        ("x", idx(np.zeros((3, 4), np.uint8)) + b"x", r"header says \[3, 4\], but more than 12 bytes"),
        ("x", idx(np.zeros((0, 4), np.uint8)), r"header says \[0, 4\]"),
        ("x", b"\x00\x00\x08\x02" + b"\xff" * 99, r"claims the shape \[4294967295, 4294967295\], 18,446,.*: at most"),
        ("x.gz", gzip.compress(b"\x00\x00\x08\x02" + b"\xff" * 99), r"claims the shape \[4294967295, 4294967295\]"),
        ("x", b"\x00\x00\x08\x02" + b"\x00\x00\x7f\xff" * 2 + b"x", r"\[32767, 32767\], but 1 bytes"),
        ("x.gz", gzip.compress(idx(np.zeros((3, 4), np.uint8)))[:-8] + b"wrong sum", "cannot be unpacked: CRC"),
        ("x", idx(np.zeros((3, 4), np.uint8))[:-1], r"damaged: its header says \[3, 4\], but 11 bytes"),
        ("x", idx(np.zeros((3, 4), np.uint8))[:7], "damaged"),
        ("x.gz", gzip.compress(idx(np.zeros((300, 4), np.uint8)), mtime=0)[:-9], "cannot be unpacked"),
        ("x.gz", b"<html>", "cannot be unpacked"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,  # gzip writes the time into them
)
def test_damage_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / name, 2)
