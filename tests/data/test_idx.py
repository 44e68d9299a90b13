"""IDX files, gzipped or not, under every name that mirrors give them; damage is told, never read as pixels."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from kd.data.idx import STEMS, find_idx, read_idx, read_splits


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", b"", "starts with nothing"),
        ("x", b"<html>not found</html>", "no IDX file"),
        ("x", b"\x00\x00\x0d\x01" + b"\x00" * 8, "no IDX file of unsigned bytes"),  # floats
        ("x", idx(np.zeros((3, 4), np.uint8))[:-1], r"damaged: its header says \[3, 4\], but 11 bytes"),
        ("x", idx(np.zeros((3, 4), np.uint8))[:7], "damaged"),
        ("x.gz", gzip.compress(idx(np.zeros((300, 4), np.uint8)), mtime=0)[:-9], "cannot be unpacked"),
        ("x.gz", b"<html>", "cannot be unpacked"),
    ],
)
def test_damage_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / name)
