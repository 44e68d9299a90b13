"""Decoding is bounded in memory, and goes on after a kill with the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets import folder
from kd.data.journal import BLOCK, Journal
from kd.data.readers.parallel import AHEAD, fill_rows, in_order
from kd.store.store import Store
from tests.conftest import open_data

COUNT = 4 * BLOCK + 100


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """2,148 files, one of them bad: links to forty images, so that it is quick to write."""
    root = tmp_path_factory.mktemp("tree")
    generator = np.random.default_rng(0)
    originals = []
    for number in range(40):
        originals.append(root / f"{number}.png")
        noise = generator.integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(noise).resize((192, 128)).save(originals[-1])
    for split, count in {"train": COUNT - 200, "test": 200}.items():
        for name in "ab":
            (root / "images" / split / name).mkdir(parents=True)
        for number in range(count):
            place = root / "images" / split / "ab"[number % 2] / f"{number:05}.png"
            os.link(originals[number % 40], place)
    (root / "images/train/a/zz.png").write_text("no image")
    return root / "images"


def load(store, root):
    return open_data(folder.load, Store(store), root=str(root), image_size=48, on_bad_file="skip", on_leak="warn")


def published(store):
    """Return the hash of every file of the decoded data set."""
    (place,) = (store / "data").iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.iterdir())}


def start(store, root):
    code = (
        "from tests.data.test_resumed_decode import load; from pathlib import Path\n"
        f"load(Path({str(store)!r}), Path({str(root)!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def blocks_in(store):
    journals = list((store / "unfinished").glob("*/rows.jsonl"))
    return journals[0].read_text().count("sha256") if journals else 0


def wait_for(condition, process):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "it ended, or did not begin"
        time.sleep(0.002)


def test_a_decoding_that_is_killed_twice_goes_on_and_ends_with_the_same_bytes(tmp_path, tree):
    load(tmp_path / "whole", tree)
    store = tmp_path / "killed"
    for least in (1, 2):
        process = start(store, tree)
        wait_for(lambda least=least: blocks_in(store) >= least, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not [path for path in (store / "data").iterdir() if not path.name.startswith(".")]
    process = start(store, tree)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    done = int(said.split(" of 2,149 images are decoded already")[0].split()[-1].replace(",", ""))
    assert done >= 2 * BLOCK
    assert published(store) == published(tmp_path / "whole")
    assert not list(store.glob("unfinished/*"))


def test_rows_that_do_not_match_their_hash_are_filled_again(tmp_path):
    images, filled = np.zeros((BLOCK * 2 + 5, 4, 4, 3), np.uint8), []
    names, path = [f"image {row}" for row in range(len(images))], tmp_path / "rows.jsonl"

    def fill(row):
        filled.append(row)
        images[row] = row % 251
        if row == 3:
            raise ValueError("it is torn")
        return 8, 4

    def run(on_bad_file):
        filled.clear()
        return fill_rows(images, names, fill, on_bad_file, Journal(path, images))

    with pytest.raises(ValueError, match="1 of 1029 files cannot be read.*\n  image 3: it is torn"):
        run("error")
    assert sorted(filled) == list(range(len(images)))
    images[BLOCK + 9, 0, 0, 0] ^= 1  # as after a power cut
    with pytest.raises(ValueError, match="image 3: it is torn"):
        run("error")
    assert sorted(filled) == list(range(BLOCK, 2 * BLOCK))
    kept, notes, shapes = run("skip")
    assert filled == [] and notes == {"bad_files": 1, "bad_file_names": ["image 3: it is torn"]}
    assert kept.tolist() == [row for row in range(len(images)) if row != 3] and set(shapes) == {(8, 4)}
    assert (images[: len(kept)] == (kept % 251)[:, None, None, None]).all()


def test_a_torn_line_and_a_foreign_one_are_left_out(tmp_path):
    images, path = np.full((BLOCK, 2, 2, 3), 7, np.uint8), tmp_path / "rows.jsonl"
    Journal(path, images).finish(0, [(1, 2)] * BLOCK)
    assert Journal(path, images).done == {0: [(1, 2)] * BLOCK}
    whole = path.read_text()
    for text in (whole[:-9], whole.replace('"start": 0', '"start": 3'), '{"start": 0}', "[]", "\n\x00", '{"rows": 3}'):
        path.write_text(text)
        assert Journal(path, images).done == {}
    path.write_text(whole[:-9])  # the next line begins on a line of its own
    Journal(path, images).finish(0, ["bad"] * BLOCK)
    assert Journal(path, images).done == {0: ["bad"] * BLOCK}
    assert json.loads(path.read_text().splitlines()[-1])["start"] == 0


def test_few_calls_are_queued_whatever_the_number_of_images():
    started, lock = [], threading.Lock()

    def items():
        for item in range(20 * AHEAD):
            with lock:
                started.append(item)
            yield item

    with ThreadPoolExecutor(3) as pool:
        for number, result in enumerate(in_order(pool, lambda item: item + 1, items())):
            assert result == number + 1
            assert len(started) <= number + AHEAD
    assert len(started) == 20 * AHEAD
