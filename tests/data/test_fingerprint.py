"""A content key depends on labels and bytes, not on paths or dates; it is remembered until a date changes."""

from __future__ import annotations

import os
import time

import pytest

from kd.data import fingerprint
from kd.data.fingerprint import content_key
from kd.store.store import Store


@pytest.fixture
def files(tmp_path):
    (tmp_path / "files").mkdir()
    made = {f"class/{n}": tmp_path / "files" / str(n) for n in range(3)}
    for n, path in enumerate(made.values()):
        path.write_text(f"content {n}")
    return {label: str(path) for label, path in made.items()}


def test_order_path_and_date_do_not_count(tmp_path, files):
    store = Store(tmp_path / "store")
    key = content_key(store, files)
    assert content_key(store, dict(reversed(files.items()))) == key
    os.utime(files["class/1"], (0, 0))
    assert content_key(store, files) == key
    os.rename(files["class/2"], tmp_path / "elsewhere")
    assert content_key(store, files | {"class/2": str(tmp_path / "elsewhere")}) == key


def test_labels_and_bytes_count(tmp_path, files):
    store = Store(tmp_path / "store")
    key = content_key(store, files)
    renamed = {label.replace("class", "other"): path for label, path in files.items()}
    swapped = files | {"class/0": files["class/1"], "class/1": files["class/0"]}
    fewer = dict(list(files.items())[:2])
    assert len({key, *(content_key(store, other) for other in (renamed, swapped, fewer))}) == 4


def test_what_did_not_change_is_not_read_again(tmp_path, files, monkeypatch):
    store = Store(tmp_path / "store")
    key = content_key(store, files)
    stat = os.stat(files["class/1"])
    read = []
    hash_file = fingerprint._sha256
    monkeypatch.setattr(fingerprint, "_sha256", lambda path: read.append(path) or hash_file(path))
    assert content_key(store, files) == key and not read
    time.sleep(0.02)  # the clock of file dates ticks every few milliseconds
    with open(files["class/1"], "r+") as file:
        file.write("CONTENT")
    os.utime(files["class/1"], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as copying tools do
    assert content_key(store, files) != key and len(read) == 3
