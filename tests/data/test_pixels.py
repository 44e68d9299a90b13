"""Pixels are the same resident, streamed and read ahead; reading ahead leaves no thread; memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import kd.data.pixels
from kd.data.loader import Loader
from kd.data.pixels import Pixels, Wanted, copy_in_parts, copy_to_device, room_on
from kd.data.prefetch import prefetch
from tests.views import AUGMENT

CPU = torch.device("cpu")
MPS = torch.device("mps")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def quiet() -> bool:
    """Whether every thread that reads ahead ends."""
    until = time.monotonic() + 10
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    return not threads()


@pytest.fixture(params=["ahead", "resident"])
def other(request, dataset):
    """A loader that reads ahead, or that has all images in one tensor, as on an accelerator."""
    loader = Loader(dataset, 16, 0, CPU, mixup=0.5, grad_accum_steps=2, augment=AUGMENT)
    loader._pixels.ahead = request.param == "ahead"
    loader._pixels.resident = torch.from_numpy(np.array(dataset.images)) if request.param == "resident" else None
    return loader


@pytest.mark.parametrize("start", [0, 4])
def test_batches_are_the_same_wherever_the_images_are(dataset, other, start):
    plain = Loader(dataset, 16, 0, CPU, mixup=0.5, grad_accum_steps=2, augment=AUGMENT)
    assert plain._pixels.resident is None and not plain._pixels.ahead, "the map is used as it is"
    for one, two in zip(plain.epoch(3, start=start), other.epoch(3, start=start), strict=True):
        assert torch.equal(one.image, two.image) and torch.equal(one.mixup_target, two.mixup_target)
    for one, two in zip(plain.eval_batches(dataset.val, 10), other.eval_batches(dataset.val, 10), strict=True):
        assert torch.equal(one.image, two.image) and torch.equal(one.index, two.index)
    assert quiet()


def test_the_next_result_is_made_while_the_caller_has_this_one():
    made = []
    results = prefetch((lambda number=number: made.append(number) or number) for number in range(5))
    assert next(results) == 0
    until = time.monotonic() + 10
    while made != [0, 1] and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(made) == [0, 1], "one ahead, and no more"
    assert list(results) == [1, 2, 3, 4] and quiet()


def test_an_error_of_the_thread_reaches_the_caller_in_its_place():
    def fail():
        raise OSError(5, "Input/output error")

    results = prefetch([lambda: 1, fail, lambda: 3])
    assert next(results) == 1
    with pytest.raises(OSError, match="Input/output error"):
        next(results)
    assert quiet() and list(prefetch([])) == []


def test_an_interrupted_epoch_leaves_no_thread(dataset):
    loader = Loader(dataset, 16, 0, CPU, augment=AUGMENT)
    loader._pixels.ahead = True
    with pytest.raises(KeyboardInterrupt):
        for number, _ in enumerate(loader.epoch(1)):
            if number == 2:
                raise KeyboardInterrupt
    assert quiet()


def test_images_take_a_quarter_of_what_is_free_and_at_most_eight_gigabytes(monkeypatch):
    for free, room in ((4 * 2**30, 2**30), (2**40, 8 * 2**30)):
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda free=free: free + 2**20)
        monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**20)
        assert room_on(MPS) == room
    assert room_on(torch.device("meta")) == 0


def test_images_that_do_not_fit_are_streamed(dataset, monkeypatch):
    device = torch.device("meta")  # has no memory to run out of, and no values
    monkeypatch.setattr(kd.data.pixels, "room_on", lambda device: dataset.images.nbytes - 1)
    assert copy_to_device(dataset.images, device) is None
    monkeypatch.setattr(kd.data.pixels, "room_on", lambda device: dataset.images.nbytes)
    assert copy_to_device(dataset.images, device).shape == dataset.images.shape

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", full)
        assert copy_to_device(dataset.images, device) is None
    pixels = Pixels(dataset.images, CPU)
    pixels.ahead = True
    positions = np.array([5, 3, 170])
    ((part,),) = pixels.stream([[Wanted(positions, torch.from_numpy(positions))]])
    assert np.array_equal(part.numpy(), dataset.images[positions])


def test_a_copy_in_parts_is_whole(dataset, monkeypatch):
    monkeypatch.setattr(kd.data.pixels, "COPIED_BYTES", 5000)  # six images
    copied = copy_in_parts(dataset.images, CPU)
    assert copied.dtype == torch.uint8 and np.array_equal(copied.numpy(), dataset.images)


LIMITED = """
import resource, sys
import numpy as np, torch
from kd.augment.affine import Affine
from kd.data.dataset import ImageDataset
from kd.data.loader import Loader

torch.set_num_threads(1)
count, side = 6000, 128  # 295 MB
images = np.lib.format.open_memmap(sys.argv[1], "w+", np.uint8, (count, side, side, 3))  # a file of holes
images = np.load(sys.argv[1], mmap_mode="r")
numbers = np.arange(count)
data = ImageDataset("big", images, numbers % 5, tuple("abcde"), numbers[:-64], numbers[-64:-32], numbers[-32:],
                    (0, 0, 0), (1, 1, 1), "x")
loader = Loader(data, 32, 0, torch.device("cpu"), augment=[Affine(flip=0.5, shift=0.1)])
next(loader.epoch(1))
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
limit = used + 100 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # memory of its own; pages of a file do not count
for ahead in (False, True):
    loader._pixels.ahead = ahead
    shown = sum(len(batch.index) for batch in loader.epoch(1, start=85))
    print("shown", shown, "ahead", ahead)
try:
    np.array(images)
except MemoryError:
    print("a copy does not fit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA")
def test_a_set_larger_than_memory_streams_from_the_map(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == [
        "shown 3200 ahead False",
        "shown 3200 ahead True",
        "a copy does not fit",
    ], done.stdout + done.stderr
