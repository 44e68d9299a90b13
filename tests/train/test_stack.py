"""A stack of students computes what each would compute alone, for every method, in loss, gradients and buffers."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy, cross_entropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.train import trial
from kd.train.objective import Objective
from kd.train.stack import CannotStack, Stack, form_of
from kd.train.step import TrainStep
from kd.train.trial import check_stack, choose, midpoints
from tests.conftest import CONF
from tests.methods.test_contract import METHODS, Lesson

ALONE = {
    "nd": "vmap",  # dropout on the student's side draws at random
    "dhkd": "vmap",  # dropout in its second head
    "crd": "student_memory would differ",  # a step replaces its memories by new tensors
    "ofd": "shape",  # a margin of the teacher, which the students share, is updated in place by each
    "rrd": "queue would differ",  # so does this one its memory
}
NUMBERS = ("temperature", "nontarget", "target", "gamma", "distance", "angle", "lowest", "span", "p", "margin", "inter")


def step_of(method: str, number: int, device) -> tuple[TrainStep, tuple[Batch, Outputs]]:
    """Return the step of a student whose weights in the loss, temperature and so on depend on ``number``."""
    lesson = Lesson(method)
    for name in lesson.objective.weights:
        lesson.objective.weights[name] *= 1 + number / 2
    for module in lesson.objective.modules():
        for name in NUMBERS:
            if type(value := vars(module).get(name)) is float:
                vars(module)[name] = value * (1 + number / 4)
        if type(value := vars(module).get("label_smoothing")) is float:
            module.label_smoothing = value + number / 20
    lesson.student.train()
    with torch.no_grad():  # students differ in their weights, too
        for p in lesson.student.parameters():
            p += 0.01 * number * torch.randn(p.shape, generator=torch.Generator().manual_seed(number))
    return TrainStep(lesson.student, lesson.objective, device, False), (lesson.batch, lesson.answer)


@pytest.mark.parametrize("method", METHODS)
def test_loss_gradients_and_batch_norms_equal_those_of_each_student_alone(method, machine, monkeypatch):
    monkeypatch.setattr(trial, "TOLERANCE", 1e-12)
    monkeypatch.setattr(trial, "SMALLEST", 0.1)  # a bias in front of a batch norm has only the rounding of the others
    steps, parts = zip(*(step_of(method, number, machine) for number in range(3)), strict=True)
    if method in ALONE:
        with pytest.raises(CannotStack, match=ALONE[method]):
            check_stack(steps, [parts[0]] * 3)
        return
    constant = check_stack(steps, [parts[0]] * 3)  # compares them
    assert {"network.mean", "network.std"} <= constant and not any("running" in name for name in constant)


def test_the_documentation_names_the_methods_that_do_not_stack():
    text = (CONF.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    sentence = text.partition("**Which methods stack.**")[2].partition("Students with")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {*ALONE}


def student(temperature=2.0, weight=0.5, *, side=16, dropout=0.0, smoothing=0.0, seed=0, machine) -> TrainStep:
    torch.manual_seed(seed)
    network = Normalized(TinyCNN(6, side, width=0.25, dropout=dropout), [0.5] * 3, [0.3] * 3)
    terms = {"hard": CrossEntropy(smoothing), "soft": Hinton(temperature)}
    return TrainStep(
        machine.to_device(network).train(), Objective(terms, {"hard": 1 - weight, "soft": weight}), machine, False
    )


def lesson(count=12, side=16, seed=0) -> tuple[Batch, Outputs]:
    generator = torch.Generator().manual_seed(seed)
    image, logits = torch.rand(count, 3, side, side, generator=generator), torch.randn(count, 6, generator=generator)
    return Batch(image, torch.arange(count) % 6, torch.arange(count)), Outputs(logits)


def test_a_stacked_step_agrees_in_the_precision_of_the_training(machine):
    from kd.runtime.device import resolve_device

    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 3e-2)):
        device = resolve_device("cpu", precision)
        steps = [
            student(t, w, smoothing=s, machine=device) for t, w, s in ((2, 0.1, 0.0), (4, 0.9, 0.1), (8.5, 0.5, 0.2))
        ]
        alone = copy.deepcopy(steps)
        batch, answer = lesson()
        numbers = Stack(steps, frozenset({"network.mean"})).learn(batch, answer, False, torch.ones(()), 0)
        for one, other, line in zip(alone, steps, numbers, strict=True):
            loss, noted = one(batch, answer)
            loss.backward()
            torch.testing.assert_close(line, noted, rtol=tolerance, atol=tolerance)
            for p, q in zip(one.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(q.grad, p.grad, rtol=tolerance, atol=tolerance)
            for p, q in zip(one.buffers(), other.buffers(), strict=True):
                torch.testing.assert_close(q, p, rtol=tolerance, atol=tolerance)


def test_students_of_other_seeds_see_images_of_their_own(machine):
    steps = [student(seed=seed, machine=machine) for seed in (0, 1, 1)]
    one, other = lesson(seed=0), lesson(seed=1)
    check_stack(steps, [one, other, other])
    with pytest.raises(CannotStack, match="loss would differ"):  # the trial does see a wrong batch

        class Wrong(Stack):
            def learn(self, batch, answer, mapped, share, number):
                return super().learn(batch._replace(image=batch.image.flip(0)), answer, mapped, share, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trial, "Stack", Wrong)
            check_stack(steps, [one, other, other])


def test_what_cannot_be_mapped_is_said(machine):
    dropped = [student(dropout=0.2, machine=machine) for _ in range(2)]
    assert "random" in choose(dropped, [lesson()] * 2, always=True).reason
    other = [student(machine=machine), student(machine=machine)]
    for number, step in enumerate(other):
        step.objective.terms["soft"].variant = f"variant {number}"
    with pytest.raises(CannotStack, match=r"terms\.soft\.variant differs in more than a number"):
        check_stack(other, [lesson()] * 2)
    assert form_of(student(machine=machine)) == form_of(student(4.0, 0.9, machine=machine))
    assert form_of(student(machine=machine)) != form_of(student(weight=0.0, machine=machine))  # a term less


def test_the_trial_leaves_students_and_random_numbers_as_they_were(machine):
    steps = [student(t, machine=machine) for t in (2.0, 4.0, 8.0)]
    before = copy.deepcopy([step.state_dict() for step in steps])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choice = choose(steps, [lesson()] * 3)
    assert torch.equal(torch.rand(3), expected)
    if choice.reason:  # a stack of two took much longer on a busy machine, so nothing else was timed
        assert "times as long" in choice.reason and choice.size == 1
    else:
        assert choice.in_turn > 0 and choice.stacked > 0
        assert choice.size == (3 if choice.stacked < choice.in_turn else 1)
    assert choose(steps, [lesson()] * 3, always=True).size == 3
    assert choose(steps, [lesson()] * 3, 2, always=True).size == 2
    for step, state in zip(steps, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in step.state_dict().items())
        assert all(p.grad is None for p in step.parameters())


def test_slices_keep_the_memory_order_and_are_given_back(machine):
    steps = [student(machine=machine, seed=seed) for seed in range(2)]
    before = copy.deepcopy([step.state_dict() for step in steps])
    strides = [p.stride() for p in steps[0].parameters()]
    stack = Stack(steps)
    stack.parameters["network.network.classifier.bias"].data += 1
    assert [p.stride() for p in steps[0].parameters()] == strides
    assert steps[1].network.network.classifier.bias[0] == before[1]["network.network.classifier.bias"][0] + 1
    stack.release()
    assert all(
        p.untyped_storage().nbytes() == p.nbytes for step in steps for p in (*step.parameters(), *step.buffers())
    )
    assert [p.stride() for p in steps[0].parameters()] == strides


def test_midpoints_lie_between_the_ends_of_schedules():
    terms = {"hard": CrossEntropy(), "soft": Hinton(2.0)}
    objective = Objective(terms, {"hard": 1.0, "soft": 1.0}, {"soft": {"start": 0.5, "rise": 0.2}})
    assert midpoints(objective) == pytest.approx([0.1, 0.35, 0.75])


def test_label_smoothing_may_be_a_tensor():
    logits, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=smoothing)
        found = cross_entropy(logits, target, torch.tensor(smoothing, dtype=torch.float64))
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
