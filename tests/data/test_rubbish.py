"""Files that are not images, decompression bombs, names in any script: each is read, or named with its reason."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from kd.data.datasets.folder import load
from kd.data.files import printable, reason_of
from kd.data.readers import images as readers_images
from kd.store.store import Store
from tests.conftest import open_data
from tests.data.test_folder import grow

CORPUS = Path(__file__).parent / "corpus"
RED, WHITE, BLUE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 255), (0, 0, 0)
# of valid files: the colours at the left, top right and bottom right, if they are not all red
COLOURS = {
    "ok_16_bit_colour.png": [(200, 30, 60)],
    "ok_16_bit_grey.png": [(100, 100, 100)],
    "ok_20000_x_20.gif": [BLACK],
    "ok_exif_no_header.png": [RED, BLUE, BLUE],
    "ok_exif_no_header.webp": [RED, BLUE, BLUE],
    "ok_exif_turned.jpg": [RED, RED, BLUE],
    "ok_exif_turned.png": [RED, RED, BLUE],
    "ok_exif_turned.tif": [RED, RED, BLUE],
    "ok_exif_turned.webp": [RED, RED, BLUE],
    "ok_lab.tif": [WHITE],
    "ok_next_page_is_this_page.tif": [WHITE],
    "ok_one_bit.png": [WHITE],
    "ok_palette_transparent.gif": [WHITE, BLUE, BLUE],
    "ok_palette_transparent.png": [WHITE, BLUE, BLUE],
}
REASONS = {  # by the first word of the name
    "bomb": ("limit of", "too large"),
    "empty": ("the file is empty",),
    "float": ("no white point",),
    "icon": ("not an image of a known format",),
    "no": ("not an image",),
    "postscript": ("not an image of a known format",),
    "text": ("not an image of a known format",),
    "truncated": ("truncated", "decoder", "not an image"),
    "two": ("broken data stream",),
    "web": ("not an image of a known format",),
    "wrong": ("broken data stream",),
    "zeros": ("not an image of a known format",),
}


@pytest.mark.parametrize("setting", ["as Pillow comes", "as others leave it"])
@pytest.mark.filterwarnings("error")
def test_the_corpus_gives_images_and_reasons_and_no_noise(setting, monkeypatch, capfd, caplog):
    if setting == "as others leave it":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    files = {path.name: str(path) for path in sorted(CORPUS.iterdir())}
    assert len(files) > 50 and max(os.path.getsize(path) for path in files.values()) < 4096
    images = np.zeros((len(files), 16, 16, 3), np.uint8)
    kept, _ = readers_images.decode_into(images, files, "skip")
    assert (setting == "as others leave it") == ImageFile.LOAD_TRUNCATED_IMAGES
    assert [name for name in files if name.startswith("ok_")] == [list(files)[row] for row in kept]
    for name, image in zip((name for name in files if name.startswith("ok_")), images, strict=False):
        seen = np.stack([image[2, 2], image[2, 13], image[13, 13]]).astype(int)
        assert np.abs(seen - COLOURS.get(name, [RED])).max() <= 2, f"{name} shows {seen.tolist()}"
    with pytest.raises(ValueError) as raised:
        readers_images.decode_into(images, files, "error")
    lines = str(raised.value).splitlines()[1:]
    bad = [name for name in files if not name.startswith("ok_")]
    assert len(lines) == len(bad)
    for name, line in zip(bad, lines, strict=True):
        shown, _, reason = line.strip().partition(": ")
        assert shown == name and any(part in reason.lower() for part in REASONS[name.split("_")[0].split(".")[0]]), line
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_bar_is_shown_on_a_terminal_and_libtiff_is_not():
    """Standard error of the process is a terminal, and libtiff complains in C about the files."""
    files = [CORPUS / f"{name}.tif" for name in ("ok_exif_turned", "truncated_strip_behind_the_end", "truncated_lzw")]
    script = (
        "import sys, numpy as np; from kd.data.readers.images import decode_into, read_image;"
        "files = {p: p for p in sys.argv[1:]}; images = np.zeros((3, 9, 9, 3), np.uint8);"
        "print(decode_into(images, files, 'skip')[0].tolist()); print('still here', file=sys.stderr)"
    )
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", script, *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=CORPUS.parents[2], timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.stdout == b"[0]\n" and "decode" in shown and "still here" in shown and "TIFF" not in shown


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def blank_png(path, width, height, depth, colour):
    """A PNG of zeros, compressed row by row."""
    row = bytes(1 + width * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


PEAK = """
import sys
import numpy as np
from kd.data.readers.images import decode_into
from tests.conftest import open_data
from tests.data.memory import growth

images = np.zeros((len(sys.argv) - 1, 9, 9, 3), np.uint8)
decode_into(images, {"none": "."}, "skip")
grown = growth()
kept, notes = decode_into(images, {path: path for path in sys.argv[1:]}, "skip")
print(len(kept), grown())
"""


def peak(*paths):
    """Return how many files are kept, and by how many megabytes the process grows."""
    command = [sys.executable, "-c", PEAK, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CORPUS.parents[2], timeout=300)
    assert done.returncode == 0, done.stderr
    return map(float, done.stdout.split())


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    blank_png(tmp_path / "1.png", 30_000, 30_000, 1, 0)  # 15 KB that unpack to 900 MB
    blank_png(tmp_path / "2.png", 10_000, 10_000, 8, 2)  # 1.3 MB, 400 MB: Pillow itself would only warn
    with open(tmp_path / "3.webp", "wb") as file:  # a sparse file that a decoder would read whole
        file.write(b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8X")
        file.truncate(2**31)
    bombs = sorted(CORPUS.glob("bomb_*"))
    kept, megabytes = peak(*sorted(tmp_path.iterdir()), *bombs)
    assert kept == 0 and len(bombs) >= 10 and megabytes < 60


@pytest.mark.slow
def test_the_largest_images_together_need_two_gigabytes(tmp_path):
    for name, size, kind in (
        ("a", (9459, 9459), 6),
        ("b", (9459, 9459), 6),
        ("c", (1_000_000, 89), 6),
        ("d", (89, 1_000_000), 6),
        ("too wide", (1_000_001, 1), 0),
    ):
        blank_png(tmp_path / name, *size, 8, kind)
    kept, megabytes = peak(*sorted(tmp_path.iterdir()))
    assert kept == 4 and 1000 < megabytes < 2300


@pytest.fixture
def in_time():
    """End the tests if a file blocks for a minute."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def opened(tmp_path):
    store = Store(tmp_path / "store")
    return lambda root, **settings: open_data(load, store, **{"root": str(root), "image_size": 8, **settings})


def test_what_is_no_file_is_never_opened_and_named_like_any_bad_file(tmp_path, opened, in_time, monkeypatch):
    root = grow(tmp_path / "tree", {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1}, side=8)
    inside = root / "train" / "a"
    os.mkfifo(inside / "pipe")
    monkeypatch.chdir(inside)  # the path of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (inside / "device").symlink_to("/dev/zero")
    (inside / "dangling").symlink_to("nowhere")
    (inside / "loop_a").symlink_to("loop_b")
    (inside / "loop_b").symlink_to("loop_a")
    (inside / "up").symlink_to("..")  # a folder within itself, without end
    (inside / "folder").mkdir()
    (inside / "empty").touch()
    (inside / "fine").symlink_to("02.png")
    reasons = {
        "pipe": "a pipe, not a file",
        "socket": "a socket, not a file",
        "device": "a device, not a file",
        "dangling": "a link to a file that is not there",
        "loop_a": "a link that leads back to itself",
        "loop_b": "a link that leads back to itself",
        "up": "a folder, not a file",
        "folder": "a folder, not a file",
        "empty": "the file is empty",
    }
    with pytest.raises(ValueError, match="9 of 18 files") as raised:
        opened(root)
    lines = {f"  train/a/{name}: {reason}" for name, reason in reasons.items()}
    assert set(str(raised.value).splitlines()[1:]) == lines
    dataset = opened(root, on_bad_file="skip")
    assert dataset.notes["bad_files"] == 9 and len(dataset.targets) == 9
    assert {f"  {line}" for line in dataset.notes["bad_file_names"]} == lines
    again = opened(root, on_bad_file="skip")
    assert again.fingerprint == dataset.fingerprint
    (inside / "nowhere").write_bytes((inside / "00.png").read_bytes())  # two more images: this file and the link to it
    assert len(opened(root, on_bad_file="skip").targets) == 11


def test_links_in_place_of_a_class_are_followed_or_named(tmp_path, opened, in_time):
    root = grow(tmp_path / "tree", {"train/a": 3, "elsewhere/b": 3, "test/a": 1, "test/b": 1}, side=8)
    (root / "train" / "b").symlink_to("../elsewhere/b")
    (tmp_path / "link").symlink_to(root)
    assert opened(tmp_path / "link").classes == ("a", "b")
    (root / "train" / "c").symlink_to("c")
    with pytest.raises(ValueError, match="train holds c, a link that leads back to itself. Repair or remove it"):
        opened(root)
    (root / "train" / "c").unlink()
    (root / "train" / "c").symlink_to("nowhere")
    with pytest.raises(ValueError, match="train holds c, a link to a file that is not there"):
        opened(root)
    (root / "train" / "c").unlink()
    (root / "train" / "c").symlink_to("../train")
    with pytest.raises(ValueError, match="train/c holds folders .a, b, c. and no file"):
        opened(root)
    (root / "test").rename(root / "gone")
    (root / "test").symlink_to("test")
    with pytest.raises(ValueError, match="has train/ but no test/"):
        opened(root)


NAMES = [
    *("-rf", "--help", " leading", "trailing ", "a b", "a\nb", "a\tb", "a\\b", "*?[x]", "'\"`$(x)", "%s{0}", "#|<>&;"),
    *(
        "картинка",
        "图片",
        "画像",
        "그림",
        "صورة",
        "תמונה",
        "รูปภาพ",
        "चित्र",
        "🏳️‍🌈",
        "👩‍🔬",
        "\u202egnp.exe",
        "\u200d",
        "\x7f",
        "\x1b[31m",
    ),
    *(
        "é",
        unicodedata.normalize("NFD", "é"),
        "ﬁ",
        "x" * 251,
        os.fsdecode(b"caf\xe9"),
        os.fsdecode(b"\xff\xfe\x80"),
        "\ufffe",
    ),
]


@pytest.mark.parametrize("kind", ["images", "rubbish"])
@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_files_may_have_any_name(tmp_path, opened, kind):
    root = grow(tmp_path / "tree", {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1}, side=8)
    for number, name in enumerate(NAMES):
        for split in ("train", "test"):  # the same in both: a leak
            colour = Image.new("RGB", (8, 8), (number, 9, 9))
            path = f"{root}/{split}/a/{name}.png"
            colour.save(path, "PNG") if kind == "images" else Path(path).write_text("rubbish")
    dataset = opened(root, on_bad_file="skip")
    notes = dataset.notes
    shown = notes["train_and_test_pairs" if kind == "images" else "bad_file_names"]
    assert notes["images_in_train_and_test" if kind == "images" else "bad_files"] in (len(NAMES), 2 * len(NAMES))
    assert len(set(shown)) == 20 and all(line.replace("\u200d", "").isprintable() for line in shown)
    assert len(dataset.targets) == 8 + 2 * len(NAMES) * (kind == "images")
    json.dumps(notes, ensure_ascii=False).encode()
    with pytest.raises(ValueError) as raised:
        opened(root, on_bad_file="error", on_leak="error")
    str(raised.value).encode()
    assert all(line.replace("\u200d", "").isprintable() for line in str(raised.value).splitlines())


def test_a_class_may_have_any_name(tmp_path, opened):
    names = [name for name in NAMES if unicodedata.is_normalized("NFC", name)]
    counts = {f"{split}/{name}": count for name in names for split, count in (("train", 2), ("test", 1))}
    dataset = opened(grow(tmp_path / "tree", counts, side=8))
    assert dataset.classes == tuple(printable(name) for name in sorted(names)) and "caf\\xe9" in dataset.classes
    json.dumps(dataset.classes, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 图片 é 🏳️‍🌈", "plain 图片 é 🏳️‍🌈"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_shown_is_written_out(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "/home/user/x.png"), "Permission denied"),
        (OSError("-2"), "its data are damaged (decoder error -2)"),
        (ValueError(" first\nsecond"), "first"),
        (IndexError(), "IndexError"),
        (SyntaxError("x" * 300), "x" * 200 + "…"),
        (MemoryError(), "there is not enough memory to decode it"),
        (ValueError("bad \x1b[31m\ud800"), "bad \\x1b[31m\\ud800"),
    ],
)
def test_a_reason_is_one_short_line_without_paths(error, reason):
    assert reason_of(error) == reason
