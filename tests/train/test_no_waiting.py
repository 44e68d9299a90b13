"""A training step on an accelerator, on fake tensors: nothing waits for the device, no two devices meet.

Every method, attention and student; see ``tests/fake_device.py`` for what fake tensors can show.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd.attention.attach import attach
from kd.build import build_network
from kd.config.composed import resolved
from kd.evaluation.latency import free_algorithms
from kd.interfaces import Batch
from kd.methods.supervised import CrossEntropy
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.runtime.distributed import SINGLE_PROCESS
from kd.teachers.live import LiveTeacher
from kd.train.apart import BackwardApart
from kd.train.dot import DOT
from kd.train.ema import ModelEma
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.state import TrainState
from kd.train.step import TrainStep
from tests.attention import variants
from tests.conftest import compose, options
from tests.fake_device import FakeDevice, Watch
from tests.methods.test_contract import LEARNING, Lesson, network
from tests.test_shape import NEEDS

METHODS = options("kd")
CLASSES = 6


def labels(**terms: nn.Module) -> Objective:
    return Objective({"hard": CrossEntropy(), **terms}, dict.fromkeys(("hard", *terms), 1.0))


def trained(
    kind: str, student: nn.Module, objective: Objective, teacher: nn.Module | None, side: int, mixed: bool = False
) -> Watch:
    """One training step, without and then with what a recipe can add to it, and the numbers for the log."""
    there = FakeDevice(kind)
    device, is_taught = there.device, teacher is not None and objective.needs
    live = there.prepare(lambda: LiveTeacher(teacher, device, objective.needs)) if is_taught else None
    if live:
        live.frozen = live.network  # the first batch of a training makes it, and looks at values for that
    there.move(student)
    there.prepare(lambda: objective.to(kind))
    step = TrainStep(student.train(), objective.train(), device, compile=False)
    learned = [p for p in step.parameters() if p.requires_grad]

    def whole() -> None:
        on = {"device": device.device}
        views = objective.views
        image, target = torch.rand(12 * views, 3, side, side, **on), torch.zeros(12, dtype=torch.int64, **on)
        batch = Batch(image, target, torch.arange(12, **on), epoch=1, progress=0.25)
        if mixed:
            weights = {"mixup_lam": torch.rand(12, **on), "class_weight": torch.rand(CLASSES, **on)}
            batch = batch._replace(mixup_target=target, **weights)
        batch = batch.repeat_labels(views)._replace(label_blocks=LEARNING.get(objective.sampler))
        share = torch.ones((), **on)
        loss, numbers = step(batch, live(batch).to_float32(objective.needs) if live else None)
        assert loss.device.type == kind and loss.dtype == numbers.dtype == torch.float32
        optimizer = Recipe(2).optimizer_of(step) if kind == "cuda" else torch.optim.AdamW(learned, foreach=True)
        if kind == "meta":
            loss.backward(share)
        else:  # what the engine would leave
            for p in learned:
                p.grad = torch.empty_like(p)
        state = TrainState(step, optimizer, None, SINGLE_PROCESS)
        state.record_step(0.1, share * numbers, new=True)
        state.record_step(0.1, share * numbers, new=False)
        nn.utils.clip_grad_norm_(step.parameters(), 1.0)
        optimizer.step()

    watch = there.run(whole)
    averaged = ModelEma.__new__(ModelEma)  # a copy of fake weights would be one of real ones
    averaged.network, averaged.decay, averaged.steps, averaged._source = student, 0.9, 0, None
    watch.found += there.run(lambda: averaged.update(student)).found
    return watch


def of_method(method: str, kind: str, **how) -> Watch:
    lesson = Lesson(method, **({"teacher": "resnet10t", "side": 48} if how.pop("other", False) else {}))
    return trained(kind, lesson.student, lesson.objective, lesson.teacher, lesson.batch.image.shape[-1], **how)


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_a_method_waits_for_nothing(method, kind):
    watch = of_method(method, kind)
    assert not watch.found and not watch.arrived
    assert watch.operations > 50


@pytest.mark.parametrize("method", METHODS)
def test_neither_with_a_teacher_of_another_kind_and_mixed_labels(method):
    """Maps of other sizes are pooled, by kernels or matrices that are deterministic on an accelerator."""
    watch = of_method(method, "meta", other=True, mixed=True)
    assert not watch.found and not watch.arrived


@pytest.mark.parametrize("optimizer", ["dot", "momentum"])
def test_nor_does_a_step_whose_gradients_are_kept_apart(optimizer):
    lesson, there = Lesson("dhkd"), FakeDevice("meta")
    live = there.prepare(lambda: LiveTeacher(lesson.teacher, there.device, lesson.objective.needs))
    live.frozen = live.network
    there.move(lesson.student)
    there.prepare(lambda: lesson.objective.to("meta"))
    step = TrainStep(lesson.student.train(), lesson.objective, there.device, compile=False, apart=True)
    groups = [p for p in step.parameters() if p.requires_grad]
    made = DOT(groups, 0.1, weight_decay=0.1) if optimizer == "dot" else torch.optim.SGD(groups, 0.1, foreach=True)
    backward = BackwardApart(step, made, SINGLE_PROCESS)

    def whole() -> None:
        on = {"device": "meta"}
        image, target = torch.rand(12, 3, 16, 16, **on), torch.zeros(12, dtype=torch.int64, **on)
        batch = Batch(image, target, torch.arange(12, **on), epoch=1, progress=0.25)
        for number in range(4):
            losses, _ = step(batch, live(batch).to_float32(lesson.objective.needs))
            backward.add(losses, torch.ones((), **on), number % 2, last=number % 2 == 1)
            if number % 2:
                backward.clip(1.0)
                made.step()

    watch = there.run(whole)
    assert not watch.found and not watch.arrived and watch.operations > 200


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("attention", options("attention"))
def test_nor_does_a_teacher_with_an_attention(attention, kind):
    chosen = variants.variant(attention)
    changed = attach(variants.network("resnet10t"), variants.wrap(attention), chosen.stages)
    watch = trained(kind, Normalized(changed, [0.5] * 3, [0.3] * 3), labels(), None, variants.SIZE)
    assert not watch.found and not watch.arrived


def made(group: str, option: str, side: int) -> nn.Module:
    chosen = f"{group}={option}"
    cfg = compose(chosen, "kd=supervised", *([NEEDS[chosen]] if chosen in NEEDS else []))
    settings = resolved(cfg)
    network = settings["student"] if group == "student" else settings["teacher"]["network"]
    spec = {"network": network | ({"pretrained": False} if "pretrained" in network else {})}
    if group == "teacher":
        spec["attention"] = settings["attention"]
    return Normalized(build_network(spec, CLASSES, side, tried=False), [0.5] * 3, [0.3] * 3)


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("student", options("student"))
def test_nor_does_a_student(student, kind):
    watch = trained(kind, made("student", student, 32), labels(), None, 32)
    assert not watch.found and not watch.arrived


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("teacher", sorted({*options("teacher")} - {"exported"}))
def test_nor_does_a_teacher_that_is_trained(teacher, kind):
    watch = trained(kind, made("teacher", teacher, 64), labels(), None, 64)
    assert not watch.found and not watch.arrived


@pytest.mark.parametrize("rule", ["probabilities", "log_mean_exp", "logits"])
def test_nor_does_an_ensemble(rule):
    lesson = Lesson("hinton")
    watch = trained("cuda", lesson.student, lesson.objective, Ensemble([network(0.5), network(0.25)], rule).eval(), 16)
    assert not watch.found and not watch.arrived


class Planted(nn.Module):
    """A term with a mistake."""

    needs = frozenset({"logits"})

    def __init__(self, mistake):
        super().__init__()
        self.mistake, self.scale = mistake, torch.ones(CLASSES)  # neither parameter nor buffer: it stays behind

    def setup(self, student, teacher):
        pass

    def forward(self, student, teacher, batch):
        return self.mistake(self, student.logits, student.logits[:, :4].reshape(-1, 1, 2, 2)).mean()


MISTAKES = {
    "a value is read": (lambda own, x, maps: x * x.sum().item(), "_local_scalar_dense"),
    "a branch": (lambda own, x, maps: x if x.sum() > 0 else -x, "_local_scalar_dense"),
    "a list": (lambda own, x, maps: x * x.mean(0).tolist()[0], "_local_scalar_dense"),
    "a boolean index": (lambda own, x, maps: x[x > 0], "nonzero"),
    "nonzero": (lambda own, x, maps: x * len(x.nonzero()), "nonzero"),
    "a comparison": (lambda own, x, maps: x * torch.equal(x, x), "equal"),
    "there and back": (lambda own, x, maps: x.cpu().to(x.device), "copies from the device"),
    "NumPy": (lambda own, x, maps: x * float(x.detach().numpy().mean()), "numpy"),
    "a constant on the CPU": (lambda own, x, maps: x * torch.ones(CLASSES), "device"),
    "a tensor that is no buffer": (lambda own, x, maps: x * own.scale, "convert all Tensors to FakeTensors"),
    "an index from the CPU": (lambda own, x, maps: x[torch.arange(3)], "arrived: index"),
    "a transfer in every step": (lambda own, x, maps: x * torch.ones(CLASSES).to(x.device), "arrived: _to_copy"),
    "float64": (lambda own, x, maps: x.double(), "float64"),
    "adaptive pooling": (lambda own, x, maps: F.adaptive_avg_pool2d(maps, (2, 1)), "_adaptive_avg_pool2d_backward"),
    "a bilinear resize": (lambda own, x, maps: F.interpolate(maps, size=5, mode="bilinear"), "upsample_bilinear2d"),
    "a padding by reflection": (lambda own, x, maps: F.pad(maps, (1,) * 4, mode="reflect"), "reflection_pad2d"),
}


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake, kind):
    term, sign = MISTAKES[mistake]
    with free_algorithms():  # in deterministic mode torch decomposes the resize
        watch = trained(kind, network(0.25), labels(planted=Planted(term)), network(0.5), 16)
    seen = "\n".join([*watch.found, *(f"arrived: {name}" for name in watch.arrived)])
    if sign.endswith(("backward", "2d")) and kind == "cuda":
        return  # only a backward pass shows it
    assert sign in seen
