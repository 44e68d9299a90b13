"""A data set on a full disk, and images on a read-only one: with real file systems and real limits."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torchvision import datasets

from kd.data.datasets import cifar10, fashion_mnist, folder, intel
from kd.data.readers import images
from kd.store.files import preallocate_npy
from kd.store.store import Store
from tests.conftest import open_data
from tests.data import test_fashion_mnist, test_intel
from tests.data.test_folder import grow

NOBODY = 65534
SIDE = 64  # pixels: the eight images have 98 KB


def mounted(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path):
    """Return ``disk(kilobytes)``, the folder of a file system, which each call resizes."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", place):
        pytest.skip("no file system can be mounted here: this needs root and Linux")

    def resized(kilobytes):
        assert mounted("-o", f"remount,size={kilobytes}k", place)
        return place

    yield resized
    subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def read_only(place):
    """Make ``place`` read-only in the block, even for root."""
    if os.geteuid() != 0:
        place.chmod(0o555)
        yield
        place.chmod(0o755)
        return
    if not mounted("--bind", place, place):
        pytest.skip("root may write everywhere, and no file system can be mounted read-only here")
    try:
        assert mounted("-o", "remount,ro,bind", place)
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def in_child(act, prepare):
    """Run ``prepare()`` and ``act()`` in a child process; return the result or error of ``act`` as text."""
    images._formats()  # later imports may not be readable for another user
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            prepare()
            text = act()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, str(text).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return text


@pytest.fixture
def tree(tmp_path):
    return grow(tmp_path / "tree", {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1}, side=SIDE)


def opened(root, store):
    return open_data(folder.load, Store(store), root=str(root), image_size=SIDE)


def left(store):
    """Return the content of a store without its locks."""
    return sorted(str(path.relative_to(store)) for path in Path(store).rglob("*") if ".locks" not in path.parts)


def test_a_disk_that_is_full_at_any_moment_of_the_decoding(tmp_path, tree, disk):
    """The disk grows from far too small, 4 KB at a time, to large enough."""
    elsewhere, failed, needed = opened(tree, tmp_path / "roomy"), set(), None
    for kilobytes in (16, 64, *range(92, 200, 4)):
        place = disk(kilobytes)
        try:
            dataset = opened(tree, place)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert all(path in ("data", "manifests") or path.endswith(".json") for path in left(place)), left(place)
            needed = needed or "98,304 bytes are wanted and " in str(error)
            failed.add(Path(error.filename).name if error.filename else "a memory page")
        else:
            break
    assert dataset.fingerprint == elsewhere.fingerprint and (dataset.images == elsewhere.images).all()
    assert needed and "images.npy" in failed and len(failed) > 1, failed
    assert opened(tree, place).fingerprint == elsewhere.fingerprint


def test_a_limit_on_the_size_of_files(tmp_path, tree):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))

    text = in_child(lambda: opened(tree, tmp_path / "store"), limited)
    assert text.startswith("OSError: [Errno 27] File too large: 98,304 bytes are wanted and ") and "images.npy" in text
    assert not [path for path in left(tmp_path / "store") if path.startswith("data/")]
    assert len(opened(tree, tmp_path / "store").test) == 2  # without the limit it succeeds


def test_an_allocated_file_is_whole_from_the_first_or_not_there(tmp_path, disk):
    array = preallocate_npy(disk(1024) / "fits.npy", (100, 1000), np.float32)
    assert not array.any() and (disk(1024) / "fits.npy").stat().st_blocks * 512 >= 400_000
    array[:] = 7
    array.flush()
    with pytest.raises(OSError, match="No space left on device: 4,000,000 bytes are wanted and [0-9,]+ are free"):
        preallocate_npy(disk(1024) / "large.npy", (1000, 1000), np.float32)
    with pytest.raises(OSError, match=": 8,000,000,000,000,000,000 bytes are wanted"):
        preallocate_npy(disk(1024) / "huge.npy", (10**9, 10**9), np.float64)
    assert left(disk(1024)) == ["fits.npy"]
    assert (np.load(disk(1024) / "fits.npy") == np.full((100, 1000), 7, np.float32)).all()


def seen(place):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [place, *place.rglob("*")]}


LOADED = {
    "folder": (
        lambda place: grow(place, {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1}, side=8),
        lambda store, place: open_data(folder.load, store, root=str(place), image_size=8),
    ),
    "set aside": (
        lambda place: grow(place, {"a": 5, "b": 5}, side=8),
        lambda store, place: open_data(folder.load, store, root=str(place), image_size=8),
    ),
    "intel": (
        lambda place: test_intel.grow(place, True),
        lambda store, place: open_data(intel.load, store, root=str(place), image_size=8),
    ),
    "fashion_mnist": (
        lambda place: test_fashion_mnist.fill(place, packed=True),
        lambda store, place: open_data(fashion_mnist.load, store, root=str(place)),
    ),
}


@pytest.mark.parametrize("data", LOADED)
def test_nothing_is_written_beside_the_images(tmp_path, data):
    make, load = LOADED[data]
    make(tmp_path / "images")
    before = seen(tmp_path / "images")
    with read_only(tmp_path / "images"):
        locked = load(Store(tmp_path / "store"), tmp_path / "images")
    free = load(Store(tmp_path / "another"), tmp_path / "images")
    assert locked.fingerprint == free.fingerprint and seen(tmp_path / "images") == before


@pytest.fixture
def of_nobody():
    """A folder that other users may enter; pytest's own belong to root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    (place / "store").mkdir()
    os.chown(place / "store", NOBODY, NOBODY)
    yield place
    shutil.rmtree(place)


def test_images_of_others_and_files_that_may_not_be_read(of_nobody):
    tree = grow(of_nobody / "tree", {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1}, side=8)
    (tree / "train/a/02.png").chmod(0)
    (tree / "train/b/02.png").chmod(0)

    def load(**settings):
        dataset = open_data(folder.load, Store(of_nobody / "store"), root=str(tree), image_size=8, **settings)
        return json.dumps([len(dataset.targets), dataset.notes])

    def as_nobody(**settings):
        return in_child(lambda: load(**settings), lambda: os.setuid(NOBODY))

    text = as_nobody()
    assert f"ValueError: data.root={tree}: 2 of 8 files cannot be read" in text
    assert "\n  train/a/02.png: Permission denied\n  train/b/02.png: Permission denied" in text
    count, notes = json.loads(as_nobody(on_bad_file="skip"))
    assert count == 6 and notes["bad_files"] == 2
    (tree / "train/a/02.png").chmod(0o644)
    assert json.loads(as_nobody(on_bad_file="skip"))[0] == 7
    (tree / "train/b").chmod(0)
    assert as_nobody() == f"ValueError: data.root={tree}: {tree}/train/b cannot be listed: Permission denied"


def test_an_array_file_that_may_not_be_read_is_named_with_its_root(of_nobody):
    test_fashion_mnist.fill(of_nobody / "idx", packed=False)
    (of_nobody / "idx" / "train-labels-idx1-ubyte").chmod(0)

    def load():
        return open_data(fashion_mnist.load, Store(of_nobody / "store"), root=str(of_nobody / "idx"))

    text = in_child(load, lambda: os.setuid(NOBODY))
    assert text.startswith(f"ValueError: data.root={of_nobody / 'idx'}: ") and "Permission denied" in text


def test_a_store_or_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    place = tmp_path / "outputs"
    place.mkdir()
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not installed")

    def deliver(handle):
        (place / handle).mkdir(parents=True)

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=deliver))
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "set, so no server is contacted")
    with read_only(place):
        for load in (cifar10.load, fashion_mnist.load):
            with pytest.raises(OSError, match="(Read-only|denied).*outputs/downloads") as raised:
                open_data(load, Store(place))
            assert raised.value.errno in (errno.EROFS, errno.EACCES)
        with pytest.raises(OSError, match="kagglehub's cache .*outputs.*\nSet KAGGLEHUB_CACHE to a writable folder"):
            open_data(intel.load, Store(tmp_path / "store"))
    assert datasets.CIFAR10.url.startswith("https") and not list(place.iterdir())
