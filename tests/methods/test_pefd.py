"""PEFD: published values, what of an embedding counts, and embeddings of zeros."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.pefd import PEFD, direction_distance, projector_ensemble
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


@entries("PEFD")
def test_pefd_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda own, given, w, b: direction_distance(projector_ensemble(own, w, b), given))


def test_the_module_is_the_mean_of_as_many_linear_layers():
    own, given = array("e_s"), array("e_t").abs()
    term = PEFD(2)
    term.setup(shown(own), shown(given))
    term.double()
    layers = [F.linear(own, w, b).relu() for w, b in zip(term.weight, term.bias, strict=True)]
    expected = 1 - F.cosine_similarity(sum(layers) / 2, given).mean()
    torch.testing.assert_close(term(shown(own), shown(given), None), expected)
    assert not torch.equal(*term.weight)


def test_only_the_direction_counts_and_agreement_is_zero():
    own, given = array("e_t").roll(1, 0), array("e_t")
    scale = torch.logspace(-3, 3, 8, dtype=torch.float64)[:, None]
    once = direction_distance(own, given).item()
    assert direction_distance(own * scale, given / scale).item() == pytest.approx(once, rel=1e-12)
    assert direction_distance(given * scale, given).item() == pytest.approx(0, abs=1e-15)
    assert direction_distance(-given, given).item() == pytest.approx(2, rel=1e-12)
    assert direction_distance(own.repeat(2, 1), given.repeat(2, 1)).item() == pytest.approx(once, rel=1e-12)


def test_embeddings_of_zeros_and_far_ones_have_finite_gradients():
    for own, given in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (60.0, 60.0), (1e-6, 1.0)):
        student = (own * array("e_t", torch.float32)).requires_grad_()
        loss = direction_distance(student, given * array("e_t", torch.float32).roll(1, 0))
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
        if not own * given:
            assert loss == 1 and not student.grad.any()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given = torch.randn(3, 8, 5).double(), torch.randn(8, 9).double()
    weights, biases = torch.randn(3, 2, 9, 5).double(), torch.randn(3, 2, 9).double()

    def loss(own, w, b):
        return direction_distance(projector_ensemble(own, w, b), given)

    stacked = torch.func.vmap(loss)(students, weights, biases)
    torch.testing.assert_close(stacked, torch.stack([loss(*x) for x in zip(students, weights, biases, strict=True)]))


def test_a_number_that_means_nothing_is_refused_and_an_unreachable_teacher_said():
    with pytest.raises(ValueError, match="kd.projectors"):
        PEFD(0)
    with pytest.warns(UserWarning, match="numbers below 0"):
        PEFD().setup(shown(array("e_s")), shown(-torch.ones(8, 4)))


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=pefd", "kd.projectors=2", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.terms["pefd"].projectors == 2 and objective.weights == {"hard": 0.5, "pefd": 4}
