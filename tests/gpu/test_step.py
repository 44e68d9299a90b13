"""One training step of every method on the device: right, deterministic, and without waiting for anything."""

from __future__ import annotations

import copy
import warnings
from collections import Counter

import pytest
import torch
from torch import nn

from kd.data.loader import Loader
from kd.evaluation.metrics import accuracy
from kd.evaluation.predict import predict
from kd.interfaces import Batch
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.device import Device
from kd.teachers.live import LiveTeacher
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.step import TrainStep
from tests.conftest import options
from tests.gpu.conftest import no_waiting, only_deterministic
from tests.methods.test_contract import Lesson
from tests.views import AUGMENT

METHODS = options("kd")


class Training:
    """A few steps of a method, from the same start on any device."""

    def __init__(self, method: str, device: Device):
        lesson = Lesson(method, teacher="resnet10t", side=48)
        self.device, objective = device, lesson.objective
        self.live = LiveTeacher(lesson.teacher, device, objective.needs) if objective.needs else None
        device.to_device(lesson.student).train()
        self.step = TrainStep(lesson.student, objective.to(device.device).train(), device, compile=False)
        self.optimizer = Recipe(2).optimizer_of(self.step)
        place = device.device
        image, target, index = (x.to(place) for x in (lesson.batch.image, lesson.batch.target, lesson.batch.index))
        self.batch = Batch(image, target, index, epoch=1, progress=0.25)
        torch.manual_seed(0)  # for dropout

    def take(self) -> torch.Tensor:
        """Take a step; return the numbers for the log, on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        answer = self.live(self.batch).to_float32(self.step.needs) if self.live else None
        loss, numbers = self.step(self.batch, answer)
        loss.backward()
        nn.utils.clip_grad_norm_(self.step.parameters(), 1.0)
        self.optimizer.step()
        return numbers


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_deterministic_and_waits_for_nothing(method, device, on_gpu):
    found = []
    for _ in range(2):
        training = Training(method, device)
        with only_deterministic():
            numbers = [training.take()]  # kernels and matrices are made
            with no_waiting(on_gpu):
                numbers += [training.take() for _ in range(3)]
        found.append((torch.stack(numbers), copy.deepcopy(training.step.state_dict())))
    (ones, first), (twos, second) = found
    assert ones.isfinite().all() and torch.equal(ones, twos)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_computes_what_the_cpu_computes(method, exact, machine):
    """In float32 without TF32. Random negatives and masks are the same, or the losses would differ much more."""
    here, there = (Training(method, device) for device in (machine, exact))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an operation without a deterministic kernel
        ours, theirs = here.take(), there.take()
    torch.testing.assert_close(theirs.cpu(), ours, rtol=2e-3, atol=1e-4)
    for (name, one), two in zip(here.step.named_parameters(), there.step.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            scale = one.grad.abs().max().item()
            apart = (two.grad.cpu() - one.grad).abs().max().item()
            assert apart <= 0.02 * scale + 1e-4, f"{name}: {apart:g} of {scale:g}"


def small(dataset, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Normalized(TinyCNN(6, 16, width=0.25), dataset.mean, dataset.std)


def soft() -> Objective:
    return Objective({"hard": CrossEntropy(), "soft": Hinton(4.0)}, {"hard": 0.1, "soft": 0.9})


def trained(dataset, device: Device, epochs: int = 2) -> nn.Module:
    student, teacher = small(dataset, 0), LiveTeacher(small(dataset, 9), device)
    loader = Loader(dataset, 8, 0, device.device, augment=AUGMENT)
    fit(student, soft(), loader, Recipe(epochs), device, stage="student", teacher=teacher)
    return student


def waits(dataset, device: Device, epochs: int) -> Counter:
    """Count by place how often the host waits for the device in a training."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waited:
            warnings.simplefilter("always")
            trained(dataset, device, epochs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Counter(f"{w.filename}:{w.lineno}" for w in waited if "synchronizing CUDA operation" in str(w.message))


def test_a_training_waits_at_most_for_the_transfers_of_its_batches(dataset, device, on_gpu):
    """A step more that waits would be twelve an epoch: more than is left for validation and the checks that are due."""
    steps, more = len(dataset.train) // 8, 3
    trained(dataset, device)  # kernels are loaded
    if on_gpu:
        few, many = (waits(dataset, device, epochs) for epochs in (2, 2 + more))
        many.subtract(few)  # what is left is that of the epochs alone
        assert many.total() < more * steps, many.most_common(10)


def test_a_training_ends_at_the_same_bits_and_learns_as_on_the_cpu(dataset, device, exact, machine):
    ones, twos = (trained(dataset, device).state_dict() for _ in range(2))
    assert all(torch.equal(ones[name], twos[name]) for name in ones)
    targets, found = dataset.targets[dataset.train], []
    for where in (exact, machine):
        network = trained(dataset, where, epochs=4)
        batches = Loader(dataset, 8, 0, where.device, augment=AUGMENT).eval_batches(dataset.train)
        found.append(accuracy(predict(network, batches, where), targets))
    assert found[0] == pytest.approx(found[1], abs=0.15)


def test_the_memory_of_a_training_does_not_grow(device, on_gpu):
    training, used = Training("crd", device), []
    for _ in range(6):
        training.take()
        used.append(torch.cuda.memory_allocated(device.device) if on_gpu else 0)
    assert len(set(used[2:])) == 1
