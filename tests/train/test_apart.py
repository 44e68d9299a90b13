"""Gradients of labels and of the rest, kept apart: the same sum, whatever a training adds; and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.data.loader import Loader
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.device import resolve_device
from kd.teachers.live import LiveTeacher
from kd.train.apart import Backward, BackwardApart, accumulate, check_apart, total
from kd.train.dot import DOT
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.together import fit_together
from kd.train.training import Training
from tests.methods.test_resume import Killed, Killing
from tests.train.test_layers import Adapter
from tests.train.test_layers import network as of_timm
from tests.views import AUGMENT

CPU = torch.device("cpu")
DOTS = {"optimizer": "dot", "delta": 0.08}


@pytest.fixture(scope="module")
def teacher(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


def objective(hard: float = 0.4, **schedule) -> Objective:
    terms = {"hard": CrossEntropy(), "soft": Hinton(3.0), "adapter": Adapter()}
    return Objective(terms, {"hard": hard, "soft": 0.6, "adapter": 0.1}, schedule)


def parts(dataset, machine, *, terms=None, double=False, micro=1, dropout=0.0, made=None, **recipe):
    torch.manual_seed(0)
    made = made or Normalized(TinyCNN(6, 16, width=0.25, dropout=dropout), dataset.mean, dataset.std)
    loader = Loader(dataset, 32, 0, CPU, grad_accum_steps=micro, augment=AUGMENT)
    how = {"epochs": 2, "lr": 0.05, "weight_decay": 0.01, **recipe}
    return made.double() if double else made, terms or objective(), loader, Recipe(**how), machine


def trained(dataset, machine, teacher, checkpoints=None, **how):
    about = parts(dataset, machine, **how)
    fit(*about, stage="student", teacher=teacher, checkpoints=checkpoints)
    return about[0].state_dict() | {f"term.{name}": value for name, value in about[1].state_dict().items()}


def assert_same(ones, twos, **how):
    assert set(ones) == set(twos)
    for name, one in ones.items():
        torch.testing.assert_close(twos[name], one, **how)


@pytest.mark.parametrize(
    "how",
    [
        {"micro": 3, "clip_norm": 0.5, "ema": 0.9},
        {"mixup": 0.5, "terms": "later"},
    ],
    ids=["micro-batches, clipping and average", "a term that begins later, mixtures"],
)
def test_with_equal_momenta_it_is_the_training_of_sgd(dataset, machine, teacher, how):
    """Nothing of a gradient is lost or counted twice. No weight decay: the first step of an adapter has none in DOT."""
    found, how = [], {**how, "weight_decay": 0.0}
    for optimizer in ("momentum", "dot"):
        own = {**how, "terms": objective(soft={"start": 0.5})} if "terms" in how else how
        found.append(trained(dataset, machine, teacher, double=True, optimizer=optimizer, delta=0.0, **own))
    assert_same(*found, rtol=1e-9, atol=1e-11)


def test_other_momenta_give_another_student_and_labels_alone_none(dataset, machine, teacher):
    of_delta = [trained(dataset, machine, teacher, optimizer="dot", delta=delta) for delta in (0.0, 0.09)]
    assert any(not torch.allclose(one, two) for one, two in zip(*(x.values() for x in of_delta), strict=True))
    labels = {"terms": Objective({"hard": CrossEntropy()}, {"hard": 1.0}), "double": True}
    alone = [trained(dataset, machine, None, optimizer=name, **labels) for name in ("momentum", "dot")]
    assert_same(*alone, rtol=1e-9, atol=1e-11)


def test_in_mixed_precision_both_gradients_are_float32_and_add_up(dataset, teacher):
    device = resolve_device("cpu", "bfloat16")
    found = []
    for optimizer in ("momentum", "dot"):
        training = Training(*parts(dataset, device, optimizer=optimizer), stage="student", teacher=teacher)
        training.begin_step(0.5)
        batch = next(training.loader.epoch(1))
        training.learn(batch, training.answer(batch), 0)
        optimizer = training.optimizer
        found.append([p.grad for p in training.train_step.parameters()])
    rest = [optimizer.rest[p] for p in training.train_step.parameters()]
    sums = [other if own is None else own + other for own, other in zip(found[1], rest, strict=True)]
    assert all(x.dtype == torch.float32 for x in sums)
    whole = torch.stack([one.norm() for one in found[0]]).norm()
    for one, two in zip(found[0], sums, strict=True):
        assert (one - two).norm() <= 0.01 * whole


def test_layers_learn_at_their_rates_and_the_classifier_first(dataset, machine, teacher):
    how = {"made": of_timm(dataset), "layer_decay": 0.5, "freeze_epochs": 1, **DOTS}
    training = Training(*parts(dataset, machine, **how), stage="student", teacher=teacher)
    trunk, network = set(training.network.network.parameters()), training.network.network
    trunk -= set(network.get_classifier().parameters())
    before = {p: p.detach().clone() for p in trunk}
    training.train_epoch()
    assert all(torch.equal(p, old) for p, old in before.items()) and not trunk & set(training.optimizer.rest)
    training.begin_epoch()
    before = {p: p.detach().clone() for p in training.train_step.parameters() if p.requires_grad}
    training.begin_step(0.5)
    batch = next(training.loader.epoch(2))
    training.learn(batch, training.answer(batch), 0)
    training.optimizer.step()
    scales = set()
    for group in training.optimizer.param_groups:
        for p in (p for p in group["params"] if p in trunk):
            scales.add(group["lr_scale"])
            velocity = p.grad + group["weight_decay"] * before[p] + training.optimizer.rest[p]
            torch.testing.assert_close(
                before[p] - p, training.rate * group["lr_scale"] * velocity, rtol=1e-3, atol=1e-6
            )
    assert len(scales) > 3 and max(scales) < 1


def test_it_goes_on_to_the_bit(dataset, machine, teacher, tmp_path):
    how = {"micro": 2, "dropout": 0.3, "ema": 0.9, "clip_norm": 1.0, **DOTS}
    whole = trained(dataset, machine, teacher, **how)
    checkpoints = Killing(tmp_path / "student", minutes=0)
    for checkpoints.writes in (2, 1):
        with pytest.raises(Killed):
            trained(dataset, machine, teacher, checkpoints, **how)
    assert_same(whole, trained(dataset, machine, teacher, checkpoints, **how), rtol=0, atol=0)


def test_students_of_a_pass_take_their_steps_in_turn(dataset, machine, teacher):
    cells = [DOTS, {"optimizer": "dot", "delta": 0.0}, {"optimizer": "momentum"}]
    alone = [trained(dataset, machine, teacher, **cell) for cell in cells]
    about, lines = [parts(dataset, machine, **cell) for cell in cells], []
    trainings = [Training(*each, stage="student", teacher=teacher, together=True) for each in about]
    fit_together(trainings, always=True, say=lines.append)
    for each, right in zip(about, alone, strict=True):
        found = each[0].state_dict() | {f"term.{name}": value for name, value in each[1].state_dict().items()}
        assert_same(right, found, rtol=0, atol=0)
    turns = "one pass: 2 students share data and teacher and take their steps in turn (their gradients are kept apart)"
    assert lines == [turns]


def test_only_who_asks_gets_two_gradients(dataset, machine, teacher):
    labels = Objective({"hard": CrossEntropy()}, {"hard": 1.0})
    for how, kind in (({}, Backward), (DOTS, BackwardApart), ({**DOTS, "terms": labels}, Backward)):
        training = Training(*parts(dataset, machine, **how), stage="student", teacher=teacher)
        assert type(training.backward) is kind and training.train_step.apart == (kind is BackwardApart)


def test_gradients_that_share_memory_are_added_and_scaled_apart():
    one, two, three = (
        nn.Parameter(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)) for _ in "abc"
    )
    shared = torch.ones(2, 3, 4, 4)
    sums: dict = {}
    accumulate(sums, {one: shared, two: shared, three: None})
    accumulate(sums, {one: shared, three: shared})
    assert [sums[p].mean().item() for p in (one, two, three)] == [2, 1, 1] and (shared == 1).all()
    assert all(gradient.stride() == one.stride() for gradient in sums.values())
    assert total({one: sums[one]}, sums)[one].mean() == 4 and sums[one].mean() == 2


def test_what_cannot_be_is_refused_in_one_sentence():
    dot, both = Recipe(1, optimizer="dot"), objective()
    check_apart(dot, both, False, "own")
    check_apart(Recipe(1), objective(hard=0.0), True, "own")
    labels = Objective({"hard": CrossEntropy()}, {"hard": 1.0})
    for wrong, compile, named in (
        (objective(hard=0.0), False, "kd=own has no term that learns labels"),
        (labels, False, "kd=own learns from labels alone: train.student.optimizer=momentum"),
        (both, True, "set train.compile=false"),
    ):
        with pytest.raises(ValueError, match=named) as caught:
            check_apart(dot, wrong, compile, "own")
        assert "train.student.optimizer=dot" in str(caught.value) and "\n" not in str(caught.value)
    for numbers in ({"momentum": 0.95}, {"delta": 0.2, "momentum": 0.1}):
        with pytest.raises(ValueError, match="momentum - delta"):
            Recipe(1, optimizer="dot", **numbers)
    assert isinstance(dot.optimizer_of(nn.Linear(2, 2)), DOT)
