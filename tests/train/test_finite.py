"""A non-finite loss is detected soon, and the message names its cause."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.augment.affine import Affine
from kd.data.loader import Loader
from kd.interfaces import Outputs
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.logits_only import LogitsOnly
from kd.train.finite import NonFiniteLoss, check_due
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from tests.views import AUGMENT

CPU = torch.device("cpu")
NAN = float("nan")


class Colour(LogitsOnly):
    """Reads the mean colour; in eval mode its outputs are NaN if ``spoilt_in_eval``."""

    def __init__(self, spoilt_in_eval: bool = False):
        super().__init__()
        self.linear, self.spoilt_in_eval = nn.Linear(3, 6), spoilt_in_eval

    def forward(self, image):
        return self.linear(image.mean((2, 3))) * (1 if self.training or not self.spoilt_in_eval else NAN)


class Spoilt(CrossEntropy):
    """NaN at one call."""

    def __init__(self, at: int):
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, student, teacher, batch):
        self.calls += 1
        return super().forward(student, teacher, batch) * (NAN if self.calls == self.at else 1)


class Teacher:
    """Returns infinity once, for one image of the second epoch."""

    def __init__(self, index: int):
        self.index = index

    def __call__(self, batch):
        logits = torch.zeros(len(batch.index), 6)
        logits[(batch.index == self.index) & (batch.epoch == 2), 3] = torch.inf
        return Outputs(logits)


def diverges(
    dataset,
    machine,
    terms,
    *,
    weights=None,
    batch_size=2,
    grad_accum_steps=1,
    network=None,
    teacher=None,
    augment=AUGMENT,
) -> str:
    objective = Objective(terms, weights or dict.fromkeys(terms, 1.0))
    loader = Loader(dataset, batch_size, 0, CPU, grad_accum_steps=grad_accum_steps, augment=augment)
    recipe = Recipe(2, optimizer="sgd", lr=0.01)
    with pytest.raises(NonFiniteLoss) as caught:
        fit(network or Colour(), objective, loader, recipe, machine, stage="student", teacher=teacher)
    return str(caught.value)


@pytest.mark.parametrize("grad_accum_steps", [1, 2])
def test_it_is_detected_long_before_the_end_of_an_epoch(dataset, machine, grad_accum_steps):
    spoilt = Spoilt(at=9)  # of 24 steps, or of 48 micro-batches
    message = diverges(
        dataset, machine, {"good": CrossEntropy(), "bad": spoilt}, batch_size=4, grad_accum_steps=grad_accum_steps
    )
    step = {1: 9, 2: 5}[grad_accum_steps]
    assert message.startswith(f"student: bad is not finite at epoch 1, step {step}, learning rate 0.0")
    assert spoilt.calls == {1: 16, 2: 16}[grad_accum_steps], "checked at powers of two"


def test_it_is_checked_at_least_every_hundred_steps():
    checked = [step for step in range(1, 1000) if check_due(step)]
    assert checked[:6] == [1, 2, 4, 8, 16, 32] and max(b - a for a, b in zip(checked, checked[1:], strict=False)) <= 100


def test_a_term_is_distinguished_from_the_loss(dataset, machine):
    terms = {"good": CrossEntropy(), "bad": Spoilt(at=1), "worse": Spoilt(at=1)}
    message = diverges(dataset, machine, terms)
    assert message.startswith("student: bad and worse are not finite at epoch 1, step 1,")
    assert "Images, teacher's logits and the network's logits are finite there: the cause is the term." in message
    message = diverges(dataset, machine, {"good": CrossEntropy()}, weights={"good": 1e300})
    assert message.startswith("student: loss is not finite at epoch 1, step 1,"), (
        "each term is finite, their sum is not"
    )


def test_the_students_own_logits(dataset, machine):
    network = Colour()
    nn.init.constant_(network.linear.weight, torch.inf)
    assert "The network's own logits are not finite there" in diverges(
        dataset, machine, {"hard": CrossEntropy()}, network=network
    )


def test_the_teachers_logits(dataset, machine):
    index = int(Loader(dataset, 2, 0, CPU, augment=AUGMENT).order(2)[20])  # the first of step 11
    message = diverges(dataset, machine, {"soft": Hinton(4.0)}, teacher=Teacher(index))
    assert "student: soft is not finite at epoch 2, step 11," in message
    assert message.endswith("The teacher's logits are not finite there: the cause is the teacher, not the training.")


def test_the_images(dataset, machine):
    epochs = []

    class Spoiling(Affine):
        """The first two plans are those of epoch 1: for the example of a batch, and for its training."""

        def parameters(self, u, side):
            epochs.append(len(u))
            return super().parameters(u, side) * (NAN if epochs.count(len(u)) > 2 else 1)

        def apply(self, image, parameters, host, size):
            return image * parameters[:, 4, None, None, None].abs()

    message = diverges(dataset, machine, {"hard": CrossEntropy()}, batch_size=32, augment=[Spoiling()])
    assert (
        "student: hard is not finite at epoch 2, step 1," in message
        and "The images of that step are not finite" in message
    )


def test_the_validation_logits(dataset, machine):
    message = diverges(dataset, machine, {"hard": CrossEntropy()}, network=Colour(spoilt_in_eval=True))
    assert message.startswith("student: the logits of 24 of 24 validation images are not finite after epoch 1.")
