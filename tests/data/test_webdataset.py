"""Tar shards, as WebDataset's library and as tar itself write them, good and hostile."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets.webdataset import load
from kd.data.readers.braces import expand_braces
from kd.store.store import Store
from tests.conftest import compose, open_data

SIDE = 12


def noise(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def encoded(image, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def pack(path, members):
    """Write a tar archive of (name, bytes) or of ``TarInfo`` objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def samples(count, seed=0, start=0, label=lambda row: ("cls", str(row % 3))):
    members = []
    for row, image in enumerate(noise(count, seed), start):
        suffix, text = label(row)
        members += [(f"photos/{row:06}.png", encoded(image)), (f"photos/{row:06}.{suffix}", text.encode())]
    return members


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda urls, **settings: open_data(
        load, Store(tmp_path / "store"), **{"urls": urls, "image_size": SIDE, "val_fraction": 0.2, **settings}
    )


def test_shards_of_the_library_are_read_in_order(tmp_path, opened):
    webdataset = pytest.importorskip("webdataset")
    for name, count, seed in (("train", 30, 0), ("test", 9, 1)):
        with webdataset.ShardWriter(str(tmp_path / f"{name}-%06d.tar"), maxcount=10, verbose=0) as sink:
            for row, image in enumerate(noise(count, seed)):
                sink.write({"__key__": f"{row:05}", "png": encoded(image), "cls": row % 3})
    dataset = opened("train-{000000..000002}.tar", test_urls="test-*.tar")
    assert (dataset.images == np.concatenate([noise(30, 0), noise(9, 1)])).all()
    assert dataset.targets.tolist() == [row % 3 for row in range(30)] + [row % 3 for row in range(9)]
    assert dataset.classes == ("0", "1", "2") and len(dataset.test) == 9 and dataset.name == "webdataset"


LABELLED = {
    "cls": (lambda row: ("cls", str(row % 2)), {}, ("0", "1")),
    "names": (lambda row: ("txt", ("10", "9 lives")[row % 2] + " x\n"), {}, ("10 x", "9 lives x")),
    "json": (lambda row: ("json", json.dumps({"width": 9, "label": row % 2})), {}, ("0", "1")),
    "field": (lambda row: ("json", json.dumps({"kind": "ab"[row % 2]})), {"label_key": "json.kind"}, ("a", "b")),
    "suffix": (lambda row: ("kind", "ab"[row % 2]), {"label_key": "kind"}, ("a", "b")),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_of_every_kind(tmp_path, opened, kind):
    label, settings, classes = LABELLED[kind]
    pack(tmp_path / "a.tar", samples(20, label=label))
    dataset = opened("a.tar", **settings)
    assert dataset.classes == classes and len(dataset.test) == 4
    for row in range(20):
        (place,) = (place for place in range(20) if (dataset.images[place] == noise(20, 0)[row]).all())
        assert dataset.targets[place] == row % 2


def test_names_of_classes_come_from_a_file(tmp_path, opened):
    pack(tmp_path / "a.tar", samples(20))
    (tmp_path / "names.txt").write_text("cat\ndog\nemu\nfox\n")
    assert opened("a.tar", class_names="names.txt").classes == ("cat", "dog", "emu", "fox")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="labels must lie in 0..1, found 2"):
        opened("a.tar", class_names="names.txt")


def test_validation_shards_are_the_validation_split(tmp_path, opened):
    for name, seed in (("train", 0), ("val", 1), ("test", 2)):
        pack(tmp_path / f"{name}.tar", samples(12, seed))
    dataset = opened("train.tar", val_urls="val.tar", test_urls=["test.tar"])
    assert len(dataset.train) == len(dataset.val) == len(dataset.test) == 12
    assert (dataset.images[dataset.val] == noise(12, 1)).all()


def test_the_key_is_the_content(tmp_path, opened):
    pack(tmp_path / "a.tar", samples(20))
    pack(tmp_path / "deep/er/b.tar", samples(20))
    first = opened("a.tar")
    assert opened("er/b.tar", root=str(tmp_path / "deep")).fingerprint == first.fingerprint
    assert len(list((tmp_path / "store/data").iterdir())) == 1
    assert opened("a.tar", seed=1).fingerprint != first.fingerprint  # another part is set aside for the test
    pack(tmp_path / "a.tar", samples(20, seed=5))
    assert opened("a.tar").fingerprint != first.fingerprint


def test_a_link_is_downloaded_once(tmp_path, opened):
    pack(tmp_path / "web" / "a-0.tar", samples(10))
    pack(tmp_path / "web" / "a-1.tar", samples(10, 1, start=10))
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "web"))

        def log_message(self, form, *args):
            asked.append(str(args[0]))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = f"http://127.0.0.1:{server.server_port}/a-{{0..1}}.tar"
    try:
        first, again = opened(urls), opened(urls)
        with pytest.raises(FileNotFoundError, match="a-9.tar could not be downloaded .*404.*\nBring the shards here"):
            opened(urls.replace("{0..1}", "9"))
    finally:
        server.shutdown()
    assert first.fingerprint == again.fingerprint and len(first.targets) == 20
    assert sum(line.startswith("GET /a-0") for line in asked) == 1


def test_hostile_members_are_left_out_and_nothing_is_written(tmp_path, opened):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded(noise(1, 9)[0]))
    links = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo("photos/999999.png")
        info.type, info.linkname = kind, str(outside / "secret.png")
        links.append(info)
    paths = [("../../escape.png", encoded(noise(1, 7)[0])), ("../../escape.cls", b"1")]
    paths += [("/etc/absolute.png", encoded(noise(1, 8)[0])), ("/etc/absolute.cls", b"2")]
    pack(tmp_path / "in" / "a.tar", [*samples(20), *links, *paths])
    before = sorted(path for path in tmp_path.rglob("*") if "store" not in path.parts)
    dataset = opened("in/a.tar")
    assert len(dataset.targets) == 22  # a path leads nowhere, so it is a name like any other
    assert not any((image == noise(1, 9)[0]).all() for image in dataset.images)
    assert sorted(path for path in tmp_path.rglob("*") if "store" not in path.parts) == before
    assert {path.name for path in (tmp_path / "store").rglob("*") if path.is_file()} >= {"images.npy"}
    assert not [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".png", ".cls")]


def with_size(data, size):
    """Return the bytes of an archive whose first member states another size, with a right checksum."""
    header = bytearray(data[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def test_damaged_shards_are_named(tmp_path, opened):
    whole = pack(tmp_path / "whole.tar", samples(20)).read_bytes()
    negative = (-512).to_bytes(12, "big", signed=True)  # tar goes round for ever in it, up to Python 3.13.5
    damaged = {
        "cut.tar": whole[: len(whole) // 2 + 100],
        "text.tar": b"no archive at all " * 100,
        "negative.tar": with_size(whole, negative),
        "empty.tar": b"",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"data.urls={name}: .*{name}"):
            opened(name)
    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match="Unpack it first"):
        opened("packed.tar")
    huge = with_size(whole, b"77777777777\0")
    (tmp_path / "huge.tar").write_bytes(huge)  # its first image claims 8 GB
    with pytest.raises(ValueError, match="huge.tar"):
        opened("huge.tar")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ([("x.png", b"1")], "a.tar/x: no label among png; data.label_key names its suffix"),
        ([("x.cls", b"1")], "a.tar/x: no image among cls"),
        ([("x.png", b"1"), ("x.jpg", b"1"), ("x.cls", b"1")], "2 images .png, jpg.: choose one with data.image_key"),
        ([("x.png", b"1"), ("x.json", b"{")], "its label in .json cannot be read"),
        ([("x.png", b"1"), ("x.json", b"[" * 10**5)], "its label in .json cannot be read"),
        ([("x.png", b"1"), ("x.json", b'{"height": 3}')], "no label in its JSON, which has height"),
        ([("x.png", b"1"), ("x.cls", b"\xff")], "its label in .cls cannot be read"),
        ([("x.png", b"1"), ("x.cls", b"0" * 2**21)], "its label has 2,097,152 bytes"),
        ([("x.png", b"1"), ("x.json", b'{"label": 0.5}')], "its label must be a number or a name, got '0.5'"),
        ([("x.png", b"1"), ("x.cls", b"-4")], "labels must lie in 0..2, found -4"),
        ([("x.png", b"1"), ("x.cls", b"9" * 12)], "labels must lie in 0..99999, found 9"),
        ([("x.png", b"1"), ("x.cls", b"emu")], "some labels are numbers, and others names such as emu"),
        ([("x.png", b"1"), ("x.cls", b"1")], "1 of 21 files cannot be read.*\n  train/a.tar/x: not an image"),
        (samples(1), "a.tar/photos/000000: the key occurs twice"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, opened, member, message):
    pack(tmp_path / "a.tar", [*samples(20), *member])
    with pytest.raises(ValueError, match=message):
        opened("a.tar", test_fraction=0.25)


@pytest.mark.parametrize(
    ("urls", "error", "message"),
    [
        (None, ValueError, "data=webdataset needs data.urls=<shards>"),
        ("nowhere-{0..3}.tar", FileNotFoundError, "there is no shard nowhere-0.tar, nowhere-1.tar, and 2 more"),
        ("no*.tar", FileNotFoundError, "there is no shard no"),
        ("pipe:cat a.tar", ValueError, "pipe:cat a.tar is neither a path nor a link"),
        ("s3://bucket/a.tar", ValueError, "is neither a path nor a link of http:// or https://"),
        ("a-{0..3.tar", ValueError, "a brace is not closed"),
        ("a-{0..3}}.tar", ValueError, "a brace is closed that was not opened"),
        ("a-{0..99999999}.tar", ValueError, "more than 1,000,000 names"),
        (["a.tar", "./a.tar"], ValueError, "1 of the shards are named twice"),
    ],
)
def test_urls_that_cannot_be_used(tmp_path, opened, urls, error, message):
    pack(tmp_path / "a.tar", samples(20))
    with pytest.raises(error, match=message):
        opened(urls)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{x,y}{0..1}", ["x0", "x1", "y0", "y1"]),
        ("{a,b{0..1}}.tar", ["a.tar", "b0.tar", "b1.tar"]),
        ("{,s}x", ["x", "sx"]),
    ],
)
def test_braces(pattern, names):
    assert expand_braces(pattern) == names


def test_braces_agree_with_those_of_the_library():
    braceexpand = pytest.importorskip("braceexpand").braceexpand
    for pattern in ("train-{000000..000012}.tar", "{a,b}-{0..3}.tar", "x/{train,val/{1..2}}.tar", "{a,b{1..2}}"):
        assert expand_braces(pattern) == list(braceexpand(pattern))


def test_the_command_line_takes_one_name_or_several():
    assert compose("data=webdataset", "data.urls='a-{0..3}.tar'").data.urls == "a-{0..3}.tar"
    assert list(compose("data=webdataset", "data.urls=[a.tar,b.tar]").data.urls) == ["a.tar", "b.tar"]
