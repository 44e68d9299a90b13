"""The gradient of each term: right norms and cosines, on the student's own weights, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kd.interfaces import Batch
from kd.train.gradients import active_weights, own_weights, table_of
from kd.train.objective import Objective
from kd.train.step import TrainStep
from tests.methods.test_contract import METHODS, Lesson


class Line(nn.Module):
    """Logits [B, 2] = the image's three channel means times a weight [3, 2]; dropout and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 2))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward_intermediates(self, image):
        self.calls += 1
        torch.rand(3)  # as dropout would
        means = image.mean((2, 3))
        return means, [means]

    def forward_head(self, means, pre_logits=False):
        return means if pre_logits else means @ self.weight


class Slope(nn.Module):
    """The mean over the batch of ``slope @ logits``: its gradient on the weight is the outer product with the input."""

    needs = frozenset({"features"})

    def __init__(self, *slope: float, labels: bool = False, kept: bool = False):
        super().__init__()
        self.slope, self.learns_labels = torch.tensor(slope), labels
        self.adapter = nn.Parameter(torch.ones(())) if kept else None
        self.register_buffer("seen", torch.zeros(()))

    def setup(self, student, teacher):
        pass

    def forward(self, student, teacher, batch):
        self.seen += 1
        scale = 1 if self.adapter is None else self.adapter
        return scale * (student.logits @ self.slope.to(student.logits)).mean()


def line_step(machine, weights=(1.0, 1.0, 1.0), **schedule) -> tuple[TrainStep, Batch]:
    terms = {"hard": Slope(3.0, 0.0, labels=True), "along": Slope(-4.0, 0.0), "across": Slope(0.0, 5.0, kept=True)}
    objective = Objective(terms, dict(zip(terms, weights, strict=True)), schedule)
    image = torch.zeros(4, 3, 2, 2)
    image[:, 0], image[:, 2] = 0.6, 0.8  # the input has norm 1
    return TrainStep(Line(), objective, machine, False), Batch(
        image, torch.zeros(4, dtype=torch.int64), torch.arange(4)
    )


def test_norms_and_cosines_are_those_of_the_known_gradients(machine):
    step, batch = line_step(machine, weights=(2.0, 10.0, 1.0))
    table = table_of(step, batch, None, ["hard", "along", "across"])
    right = [[6.0, 1.0], [3.0, 1.0], [4.0, -1.0], [5.0, 0.0]]  # of the labels with their weight; of each term without
    torch.testing.assert_close(table, torch.tensor(right, dtype=torch.float64), rtol=1e-6, atol=1e-7)


def test_without_labels_there_are_norms_and_no_cosines(machine):
    step, batch = line_step(machine, weights=(0.0, 1.0, 1.0))
    table = table_of(step, batch, None, ["along", "across"])
    assert table[1:, 0].tolist() == pytest.approx([4.0, 5.0]) and table[0].isnan().all() and table[:, 1].isnan().all()


def test_step_random_states_and_gradients_stay_as_they_are(machine):
    step, batch = line_step(machine)
    step.network.weight.grad = torch.full((3, 2), 7.0)
    before = copy.deepcopy(step.state_dict())
    torch.manual_seed(5)
    table_of(step, batch, None, ["hard", "across"])
    drawn = torch.rand(4)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4), drawn)
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())
    assert torch.equal(step.network.weight.grad, torch.full((3, 2), 7.0))
    assert all(p.grad is None for p in step.objective.parameters())


def test_weights_are_those_of_the_moment_and_terms_out_of_their_window_have_none(machine):
    step, _ = line_step(machine, (1.0, 10.0, 2.0), along={"rise": 0.5}, across={"start": 0.5})
    assert active_weights(step.objective, 0.25) == {"hard": 1.0, "along": 5.0}
    assert active_weights(step.objective, 0.75) == {"hard": 1.0, "along": 10.0, "across": 2.0}


@pytest.mark.parametrize(("method", "body", "added"), [("simkd", "body", "projector"), ("norm", "student", "widen")])
def test_layers_that_a_method_adds_to_the_student_are_left_out(method, body, added):
    lesson = Lesson(method)
    own, names = {id(p) for p in own_weights(lesson.student)}, dict(lesson.student.named_parameters())
    counted = {name for name, p in names.items() if id(p) in own}
    assert counted == {name for name in names if name.startswith(f"network.{body}.") and names[name].requires_grad}
    assert any(name.startswith(f"network.{added}.") for name in names)
    bare = Lesson("hinton").student
    assert len(own_weights(bare)) == len([*bare.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_measured(method, machine):
    lesson = Lesson(method)
    step = TrainStep(lesson.student, lesson.objective, machine, False)
    terms = list(lesson.objective.terms)
    table = table_of(step, lesson.batch, lesson.answer, terms)
    assert table[1:, 0].isfinite().all() and table[1:, 0].max() > 0
    inner = table[1:, 1][table[1:, 0] > 0]
    assert inner.isnan().all() if not lesson.objective.label_terms else (inner.abs() <= 1).all()


def test_a_term_of_one_view_is_measured_on_the_first_views_as_in_the_step(machine):
    step, batch = line_step(machine)
    step.objective.terms["across"].views = 2
    images = torch.cat([batch.image, 2 * batch.image])  # the second views pull twice as much
    both = Batch(images, batch.target.repeat(2), batch.index.repeat(2), views=2)
    table = table_of(step, both, None, ["hard", "along", "across"])
    torch.testing.assert_close(table[1:, 0], torch.tensor([3.0, 4.0, 7.5], dtype=torch.float64))
    loss, _ = step(both, None)
    loss.backward()
    whole = torch.tensor([3.0 - 4.0, 7.5])
    torch.testing.assert_close(step.network.weight.grad.norm(dim=0), whole.abs())
