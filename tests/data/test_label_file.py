"""Labels from a file: every usual format, lines that are refused, and the same promises as for folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets.folder import load
from kd.runtime.user_warnings import KdWarning
from kd.store.store import Store
from tests.conftest import open_data

pytestmark = pytest.mark.filterwarnings("error")
SIDE = 9


@pytest.fixture
def root(tmp_path):
    """Twelve images, images/0.png to images/11.png, each with its own grey."""
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    for number in range(12):
        Image.new("L", (SIDE, SIDE), 20 * number).save(root / "images" / f"{number}.png")
    return root


@pytest.fixture
def opened(tmp_path, root):
    """Return ``opened(text, **settings)``, which writes a file of labels and opens it."""
    store = Store(tmp_path / "store")

    def opened(text, encoding="utf-8", **settings):
        (root / "labels.csv").write_text(text, encoding=encoding)
        settings = {"root": str(root), "image_size": SIDE, "labels": "labels.csv", **settings}
        return open_data(load, store, **settings)

    return opened


def lines(mark=",", path="images/{}.png", header="", quote="", count=12):
    """Return the lines of a file in which even numbers are cats."""
    rows = [[f"{quote}{path.format(number)}{quote}", ("dog", "cat")[number % 2 == 0]] for number in range(count)]
    return "\n".join([*([header] if header else []), *(mark.join(row) for row in rows)]) + "\n"


def seen(dataset):
    """Return {class: numbers of its images}."""
    numbers = dataset.images[:, 0, 0, 0] // 20
    return {name: sorted(numbers[dataset.targets == label].tolist()) for label, name in enumerate(dataset.classes)}


@pytest.mark.parametrize(
    "text",
    [
        lines(),
        lines(header="path,label"),
        lines(header="File_Name,Class"),
        lines(header="the image,what it is"),  # names no file, but the next line does
        lines("\t"),
        lines(";", header="image;category"),
        lines(" "),
        lines("   ", header="path label"),
        lines(quote='"'),
        lines(", "),
        lines(path="./images/../images/{}.png"),
        lines(path=r"images\{}.png"),
        "\n" + lines().replace("\n", "\r\n\r\n"),
        "label,x,path\n" + "".join(f"{('dog', 'cat')[n % 2 == 0]},{n},images/{n}.png\n" for n in range(12)),
    ],
)
def test_every_usual_way_to_write_it_says_the_same(opened, text):
    dataset = opened(text)
    assert seen(dataset) == {"cat": [0, 2, 4, 6, 8, 10], "dog": [1, 3, 5, 7, 9, 11]}
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (8, 2, 2)


def test_a_mark_of_utf8_and_absolute_paths_are_read(opened, root):
    assert seen(opened(lines(), encoding="utf-8-sig"))["cat"] == [0, 2, 4, 6, 8, 10]
    assert seen(opened(lines(path=f"{root}/images/{{}}.png")))["cat"] == [0, 2, 4, 6, 8, 10]


def test_names_with_commas_quotes_blanks_and_labels_with_any_sign(opened, root):
    name = 'a, "b" c.png'
    shutil.move(root / "images/0.png", root / "images" / name)
    text = lines().replace("images/0.png", '"images/a, ""b"" c.png"').replace(",cat", ',"N/A, or: 图片"')
    assert seen(opened(text)) == {"N/A, or: 图片": [0, 2, 4, 6, 8, 10], "dog": [1, 3, 5, 7, 9, 11]}


def test_the_file_may_lie_anywhere(opened, root, tmp_path, monkeypatch):
    opened(lines())
    shutil.copy(root / "labels.csv", tmp_path / "elsewhere.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("elsewhere.txt", str(tmp_path / "elsewhere.txt"), "~/elsewhere.txt"):
        assert seen(opened(lines(), labels=place))["cat"] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("header", ["path,label,split", ""])
@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "valid", "TESTING")])
def test_a_column_says_the_split(opened, header, words):
    split = [words[0]] * 6 + [words[1]] * 2 + [words[2]] * 4
    rows = [f"images/{n}.png,{('dog', 'cat')[n % 2 == 0]},{split[n]}" for n in range(12)]
    dataset = opened("\n".join([*([header] if header else []), *rows]))
    numbers = dataset.images[:, 0, 0, 0] // 20
    assert sorted(numbers[dataset.train]) == list(range(6)) and sorted(numbers[dataset.test]) == [8, 9, 10, 11]
    assert sorted(numbers[dataset.val]) == [6, 7]
    assert opened("\n".join(rows), seed=7).fingerprint == dataset.fingerprint
    without = "\n".join(row.replace(f",{words[1]}", f",{words[0]}") for row in rows)
    assert len(opened(without, val_fraction=0.3).train) == 6  # of 8; one of each class is for validation


def test_a_split_without_a_test_sets_a_part_of_the_training_images_aside(opened):
    split = ["train"] * 8 + ["val"] * 4
    dataset = opened("".join(f"images/{n}.png,{n % 2},{split[n]}\n" for n in range(12)))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 4, 2)
    assert sorted(dataset.images[dataset.val][:, 0, 0, 0] // 20) == [8, 9, 10, 11]


def test_it_is_the_same_set_as_a_tree_of_the_same_images(opened, tmp_path):
    for number in range(12):
        folder = tmp_path / "tree" / ("train" if number < 8 else "test") / ("dog", "cat")[number % 2 == 0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (SIDE, SIDE), 20 * number).save(folder / f"{number}.png")
    tree = open_data(load, Store(tmp_path / "other"), root=str(tmp_path / "tree"), image_size=SIDE)
    rows = (f"images/{n}.png,{('dog', 'cat')[n % 2 == 0]},{'train' if n < 8 else 'test'}\n" for n in range(12))
    assert opened("".join(rows)).fingerprint == tree.fingerprint


def test_labels_that_change_make_another_set_and_numbers_stand_in_their_order(opened):
    one = opened("".join(f"images/{n}.png,{(1, 2, 10)[n % 3]}\n" for n in range(12)))
    assert one.classes == ("1", "2", "10") and seen(one)["10"] == [2, 5, 8, 11]
    other = opened("".join(f"images/{n}.png,{(2, 1, 10)[n % 3]}\n" for n in range(12)))
    assert seen(other)["2"] == [0, 3, 6, 9] and other.fingerprint != one.fingerprint


def test_a_class_and_a_folder_may_not_be_taken_for_one_another(opened, root):
    (root / "images/b").mkdir()
    for name in ("0.png", "1.png", "2.png"):
        shutil.copy(root / "images" / name, root / "images/b" / name)
    text = "".join(f"images/{n}.png,a\nimages/b/{n}.png,a/images\n" for n in range(3))
    swapped = "".join(f"images/{n}.png,a/images\nimages/b/{n}.png,a\n" for n in range(3))
    with pytest.warns(KdWarning):
        one, other = opened(text, seed=3), opened(swapped, seed=3)
    assert np.bincount(one.targets).tolist() == np.bincount(other.targets).tolist() == [3, 3]


def test_bad_files_leaks_and_missing_ones_are_named_as_for_folders(opened, root):
    (root / "images/3.png").write_bytes(b"no image")
    (root / "images/4.png").unlink()
    shutil.copy(root / "images/0.png", root / "images/10.png")
    rows = "".join(f"images/{n}.png,{n % 2},{'train' if n < 8 else 'test'}\n" for n in range(12))
    with pytest.raises(
        ValueError,
        match="1 line with an image that is not in data.root=.*:\n  line 5: images/4.png\nPaths are relative to",
    ):
        opened(rows)
    with pytest.warns(KdWarning, match="train/0/images/0.png = test/0/images/10.png"):
        dataset = opened(rows, on_bad_file="skip")
    assert dataset.notes["bad_file_names"] == [
        "train/0/images/4.png: No such file or directory",
        "train/1/images/3.png: not an image of a known format",
    ]
    assert len(dataset.targets) == 10 and len(dataset.test) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "holds no line"),
        ("images/0.png\nimages/1.png\n", "each line must be path,label or path,label,split, .* it has one column"),
        ("a,b,c,d\n1,2,3,4\n", "the first line must name such columns; it has 4 columns: a, b, c, d"),
        (lines() + "images/0.png\n", "line 13: 1 fields instead of 2"),
        (lines() + "images/0.png,\n", "line 13: no label"),
        (lines() + ",cat\n", "line 13: no path"),
        (
            lines() + "images/0.png,dog\n",
            "1 line with an image that is listed already:\n  line 13: images/0.png, also on line 1$",
        ),
        (lines() + "images/../images/0.png,cat\n", "line 13: images/../images/0.png, also on line 1$"),
        (
            lines() + "../secret.png,cat\n",
            "1 line with a path that leads out of data.root=.*:\n  line 13: ../secret.png",
        ),
        (lines() + "images/../../x.png,cat\n", "leads out of"),
        (lines() + "/etc/passwd,cat\n", "leads out of"),
        (lines() + "images/\x00.png,cat\n", "leads out of|line contains NUL"),
        (lines(path="images/{}"), r"line 1: images/0 \(there is 0.png\)"),
        (lines().replace("dog", "cat"), "at least 2 classes are needed, .*labels.csv holds cat"),
        ("images/0.png,a\nimages/1.png,b\n", r"at least 3 per class .*: a \(1\), b \(1\)"),
        ("path,label,split\nimages/0.png,a,dev\n", "line 2: the split 'dev'"),
        ("images/0.png,a,test\nimages/1.png,b,test\n", "holds no training images, only validation or test images"),
        ('images/0.png,"a\n', "line 1: unexpected end of data"),
        (
            "".join(f"images/{n}.png,{n % 2 if n < 8 else n},{'train' if n < 8 else 'test'}\n" for n in range(12)),
            r"different classes: only in .*labels.csv \(train\): 0, 1; only in .*labels.csv \(test\): 8, 9, 10, 11",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_lines(opened, tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as raised:
        opened(text)
    assert str(raised.value).startswith("data.labels=")
    assert not (tmp_path / "store").exists()


def test_twenty_lines_are_named_and_the_others_counted(opened):
    with pytest.raises(ValueError) as raised:
        opened(lines(path="nowhere/{}.png", count=50))
    message = str(raised.value).splitlines()
    assert "50 lines with an image that is not in" in message[0]
    assert message[21] == "  and 30 more" and len(message) == 23


def test_the_file_itself_is_checked(opened, root, tmp_path):
    for labels, reason in (
        ("none.csv", "No such file"),
        (".", "a folder, not a file"),
        ("~nobody_here/x", "home directory"),
    ):
        with pytest.raises(ValueError, match=f"^data.labels={labels}: .*{reason}"):
            opened(lines(), labels=labels)
    (root / "latin.csv").write_bytes("é,a\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8: .* at byte 0"):
        opened(lines(), labels="latin.csv")
    with pytest.raises(ValueError, match="data.nested=true reads folders"):
        opened(lines(), nested=True)
