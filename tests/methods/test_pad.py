"""PAD: published values, the variance that is best, and embeddings of other widths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.pad import PAD, weighted_distance
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


@entries("PAD_L2")
def test_pad_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda own, given, v: weighted_distance(own, given, v, entry["settings"]["eps"]))


def test_at_variance_one_it_is_the_squared_difference_and_the_best_variance_is_that_difference():
    own, given = array("nd_s"), array("nd_t")
    plain = weighted_distance(own, given, torch.zeros_like(own), 0.0)
    torch.testing.assert_close(plain, F.mse_loss(own, given))
    best = (own - given).square().log().requires_grad_()
    weighted_distance(own, given, best, 0.0).backward()
    assert best.grad.abs().max() < 1e-15
    twice = weighted_distance(own.repeat(2, 1), given.repeat(2, 1), best.repeat(2, 1))
    assert twice.item() == pytest.approx(weighted_distance(own, given, best).item(), rel=1e-12)
    assert weighted_distance(own, own, torch.zeros_like(own)).item() == 0


@pytest.mark.parametrize("width", [16, 32])
def test_the_module_predicts_the_variance_from_the_student(width):
    own, given = array("nd_s"), array("nd_t" if width == 16 else "e_t")
    term = PAD()
    term.setup(shown(own), shown(given))
    term.double()
    assert isinstance(term.align, torch.nn.Identity) == (width == 16)
    v = F.batch_norm(own @ term.variance[0].weight.T, None, None, training=True)
    torch.testing.assert_close(term(shown(own), shown(given), None), weighted_distance(term.align(own), given, v))


def test_sure_and_doubtful_and_far_embeddings_stay_finite_in_float32():
    given = array("nd_t", torch.float32)
    for scale in (0.0, 1.0, 60.0):
        for v in (-60.0, 0.0, 60.0):
            own = (scale * array("nd_s", torch.float32)).requires_grad_()
            log_variance = torch.full_like(given, v).requires_grad_()
            loss = weighted_distance(own, given, log_variance)
            loss.backward()
            assert loss.isfinite() and own.grad.isfinite().all() and log_variance.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given, doubts = torch.randn(3, 8, 5), torch.randn(8, 5), torch.randn(3, 8, 5)
    stacked = torch.func.vmap(weighted_distance, in_dims=(0, None, 0))(students, given, doubts)
    alone = [weighted_distance(s, given, v) for s, v in zip(students, doubts, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(alone))


def test_one_image_and_an_eps_that_means_nothing_are_refused():
    term = PAD()
    term.setup(shown(array("nd_s")), shown(array("nd_t")))
    with pytest.raises(ValueError, match="kd=pad .* larger train.batch_size"):
        term(shown(torch.ones(1, 16)), shown(torch.ones(1, 16)), None)
    with pytest.raises(ValueError, match="kd.eps"):
        PAD(0)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=pad", "kd.eps=0.01", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.terms["pad"].eps == 0.01 and objective.weights == {"hard": 0.5, "pad": 4}
