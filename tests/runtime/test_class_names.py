"""A file of class names: what is read, and what is refused by name."""

from __future__ import annotations

import pytest

from kd.runtime.class_names import positions_of, read_class_names


def written(tmp_path, content: bytes):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    return path


def test_names_are_read_in_their_order(tmp_path):
    names = read_class_names(written(tmp_path, "\ufeffsea \r\nOld Town\r\nzebra\r\n\r\n".encode()))
    assert names == ["sea", "Old Town", "zebra"]
    assert positions_of(["zebra", "sea"], names, tmp_path) == [2, 0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty: write one class a line"),
        (b"sea\n\nforest\n", "line 2 is empty"),
        (b"sea\nforest\nsea\n", "names 'sea' more than once"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_a_file_that_does_not_name_classes_is_refused(tmp_path, content, says):
    with pytest.raises(ValueError, match=says):
        read_class_names(written(tmp_path, content))


def test_missing_classes_are_named_with_what_is_similar(tmp_path):
    with pytest.raises(ValueError, match=r"lacks 2 of the 3 classes.*'forest' \(did you mean 'Forest'\?\), 'street'"):
        positions_of(["forest", "sea", "street"], ["Forest", "sea", "xyz"], tmp_path / "classes.txt")
