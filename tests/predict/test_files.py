"""Which files a command names: folders in the order of the data set, patterns, lists."""

from __future__ import annotations

import os

import pytest

from kd.data.class_folders import in_order, list_classes
from kd.predict.files import find_files, read_list


def find(*arguments, listed=b""):
    return find_files([str(argument) for argument in arguments], lambda: listed)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names_of(root, files):
    return [os.path.relpath(file, root) for file in files]


@pytest.fixture
def tree(tmp_path):
    names = ("10/b.png", "10/a.png", "2/z", "2/.hidden", "1/x/y.png", "1/a.png", "1/Thumbs.db", "__MACOSX/q.png")
    return touch(tmp_path / "tree", *names)


def test_a_folder_has_the_order_of_the_data_set(tree):
    part = list_classes(tree, nested=True)
    theirs = [path for name in in_order(part.classes) for path in part.classes[name].values()]
    assert find(tree) == theirs
    assert names_of(tree, theirs) == ["1/a.png", "1/x/y.png", "2/z", "10/a.png", "10/b.png"]
    assert names_of(tree, find(tree / "1")) == ["1/a.png", "1/x/y.png"]


def test_order_and_repetitions_are_the_users(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find("10/b.png", "2", "10/b.png", "10") == ["10/b.png", "2/z", "10/b.png", "10/a.png", "10/b.png"]


def test_patterns_that_the_shell_left(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find("1*/*.png") == ["1/a.png", "10/a.png", "10/b.png"]
    assert find("**/*.png") == ["1/a.png", "1/x/y.png", "10/a.png", "10/b.png"]
    assert find("**") == ["1/a.png", "1/x/y.png", "10/a.png", "10/b.png", "2/z"]
    assert find("?") == ["1/a.png", "1/x/y.png", "2/z"]  # folders
    touch(tree, "1/photo[1].png", "1/photo1.png")
    assert find("1/photo[1].png") == ["1/photo[1].png"]
    assert find("1/photo[12].png") == ["1/photo1.png"]
    monkeypatch.setenv("HOME", str(tree))
    assert names_of(tree, find("~/2/*")) == ["2/z"]


def test_a_list_on_standard_input(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find("-", "2/z", listed=b"10/b.png\n\n1\nnot there.png\r\n*.png") == [
        *("10/b.png", "1/a.png", "1/x/y.png", "not there.png", "*.png", "2/z"),
    ]
    assert read_list(b"two\nlines.png\0second.png\0") == ["two\nlines.png", "second.png"]
    assert [os.fsencode(path) for path in read_list(b"caf\xe9.png\n")] == [b"caf\xe9.png"]


def test_a_missing_file_stays_so_that_it_is_named_with_the_others(tree):
    assert find(tree / "typo.png") == [str(tree / "typo.png")]


def test_a_link_to_an_enclosing_folder_ends(tree):
    (tree / "1" / "loop").symlink_to(tree)
    names = names_of(tree, find(tree))
    assert "1/loop" in names and len(names) == 6  # it counts as a file, which decoding will name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "there is no file in the folder empty"),
        (["nothing/*.png"], "no file matches nothing/*.png"),
        (["-"], "standard input names no file"),
        (["-", "-"], "can be read once"),
    ],
)
def test_nothing_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").touch()
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        find(*arguments)
