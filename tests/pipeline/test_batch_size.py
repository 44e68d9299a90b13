"""Out of memory: a real limit with RLIMIT_AS, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kd.data.loader import Loader
from kd.methods.supervised import CrossEntropy
from kd.models.logits_only import LogitsOnly
from kd.pipeline.batch_size import _one_batch, _Trial
from kd.runtime.memory import OutOfMemory, explain_out_of_memory, is_out_of_memory, smaller_training
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from tests.views import AUGMENT

CPU = torch.device("cpu")
ROOM = 120 * 2**20  # bytes beyond those in use after a run; with 60 and with 200 MB only micro-batches fit, too
COMMANDS = """
import resource, sys
import kd.run, torch
torch.set_num_threads(1)
room, overrides = int(sys.argv[1]), sys.argv[2:]
for more in (["train.teacher.lr=1e10", "train.batch_size=8"], ["train.batch_size=64"], ["train.batch_size=auto"]):
    sys.argv[1:] = [*overrides, *more]
    code = 0
    try:
        kd.run.main()
    except SystemExit as end:
        code = end.code
    print(f"exit code {code}", flush=True)
    print(f"exit code {code}", flush=True, file=sys.stderr)
    if len(more) == 2:  # all imports are done
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
"""
SMALL = [
    "teacher=tiny_cnn",
    "teacher.width=1.5",
    "teacher.depth=1",
    "student.depth=1",
    "student.width=0.25",
    "data.train_images=72",
    "data.test_images=12",
    "data.image_size=64",
    "data.val_fraction=0.1",
    "train.teacher.epochs=1",
    "train.student.epochs=1",
    "train.precision=float32",
    "teacher.allow_weak=true",
    "baseline=false",
    "latency.seconds=0",
    "latency.batch=2",
    "report=false",
    "tracking=disabled",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def printed(place) -> list[tuple[str, str]]:
    """The output of three commands: one diverges, one has too large a batch, one searches a size that fits."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("needs /proc/self/statm of Linux to set the limit")
    environment = os.environ | {"KD_OUTPUTS": str(place), "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "262144",
    }  # freed memory is returned to the system
    command = [sys.executable, "-c", COMMANDS, str(ROOM), *SMALL]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=300)
    codes = re.findall("exit code (.*)", done.stdout)
    assert codes == ["2", "2", "0"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    out, err = (re.split("exit code .*\n", text) for text in (done.stdout, done.stderr))
    return list(zip(out, err, strict=True))


def test_a_training_that_diverges_ends_with_term_place_and_rate(printed):
    message = r"kd: teacher: hard is not finite at epoch 1, step \d, learning rate \d.*e\+09.*own logits.*lower train"
    assert re.search(message, printed[0][1])


def test_a_batch_that_does_not_fit_is_named_with_what_to_set(printed):
    _, err = printed[1]
    assert "kd: teacher: train.batch_size=64 does not fit in memory: can't allocate memory" in err
    assert (
        "Use train.batch_size=32, train.grad_accum_steps=2 (the same batch in micro-batches), train.batch_size=auto"
        in err
    )


def test_auto_finds_micro_batches_that_fit(printed, place):
    fits = r"train.batch_size=auto: a batch of 64 images fits in memory in (\d+) micro-batches of up to (\d+)"
    found = re.search(fits, printed[2][0])
    grad_accum_steps, largest = map(int, found.groups())
    assert grad_accum_steps * largest == 64 and grad_accum_steps > 1
    (folder,) = [path.parent for path in place.glob("runs/*/result.json")]
    written = (folder / "config.yaml").read_text(encoding="utf-8")
    assert "batch_size: 64" in written and f"grad_accum_steps: {grad_accum_steps}" in written, (
        "the settings contain the numbers that fit"
    )


class Colour(LogitsOnly):
    """A network without batch norm: micro-batches equal the batch, up to rounding."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, image):
        return self.linear(image.mean((2, 3)))


def test_micro_batches_equal_the_batch(dataset, machine):
    found = {}
    for grad_accum_steps in (1, 3):
        torch.manual_seed(0)
        network, rows = Colour(), []
        objective = Objective({"hard": CrossEntropy()}, {"hard": 1.0})
        recipe = Recipe(2, optimizer="sgd", lr=0.5, clip_norm=1.0, mixup=0.5)
        loader = Loader(dataset, 32, 0, CPU, mixup=0.5, grad_accum_steps=grad_accum_steps, augment=AUGMENT)
        fit(network, objective, loader, recipe, machine, stage="student", log=rows.append)
        found[grad_accum_steps] = network.linear.weight.detach(), rows[-1]["loss"], rows[-1]["train_accuracy"]
    torch.testing.assert_close(found[3], found[1], rtol=1e-5, atol=1e-6)


MESSAGES = {
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 10 GiB"
    ): True,
    RuntimeError("CUDA error: out of memory"): True,
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"): True,
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"): True,
    RuntimeError("GET was unable to find an engine to execute this computation"): True,
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"): True,
    RuntimeError("NCCL error: unhandled cuda error\nFailed to CUDA calloc async 608 bytes"): True,
    RuntimeError("std::bad_alloc"): True,
    MemoryError("Unable to allocate 8.00 GiB for an array"): True,
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"): False,
    ValueError("out of memory"): False,
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"): False,
    RuntimeError("CUDA error: an illegal memory access was encountered"): False,
}


@pytest.mark.parametrize("error", MESSAGES, ids=lambda error: str(error)[:60])
def test_errors_of_memory_are_recognised(error):
    assert is_out_of_memory(error) is MESSAGES[error]
    with (
        pytest.raises(OutOfMemory if MESSAGES[error] else type(error)) as caught,
        explain_out_of_memory("student", **smaller_training(8, 2)),
    ):
        raise error
    if MESSAGES[error]:
        assert "student: train.batch_size=8 with train.grad_accum_steps=2 does not fit in memory" in str(caught.value)
        assert "train.batch_size=4, train.grad_accum_steps=4 (the same batch in micro-batches)" in str(caught.value)


def test_the_trial_of_one_of_several_processes_holds_their_gradients_once_more():
    step = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    step[1].requires_grad_(False)
    assert _Trial(processes=2).wrap_ddp(step) is step
    assert sum(x.nbytes for x in step.buckets) == 4 * (3 * 4 + 4), "DDP sends the gradients of what is trained"
    alone = nn.Linear(3, 4)
    assert not hasattr(_Trial(processes=1).wrap_ddp(alone), "buckets")
    assert _Trial(processes=2).all_gather(1) == [1], "it talks to no other process"


def test_nothing_smaller_is_offered_than_two_images():
    assert smaller_training(2, 1)["smaller"] == "another train.device"
    assert smaller_training(4, 2)["smaller"] == "train.batch_size=2"


@pytest.mark.parametrize("batch_size", [32, 96])
def test_a_trial_is_one_batch_that_is_a_little_larger(dataset, batch_size):
    loader = Loader(dataset, batch_size, 0, CPU, augment=AUGMENT)
    one = _one_batch(loader, 2, 1)
    assert one.steps == 1 and one.shown > batch_size and len(list(one.epoch(1))) == 2
