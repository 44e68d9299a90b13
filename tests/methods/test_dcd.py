"""DCD: published values, what a perfect student gets, and the limit of the learned scale."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.dcd import DCD, contrast_and_consistency
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries

LAYERS = {"crd_Ws": "student.weight", "crd_bs": "student.bias", "crd_Wt": "teacher.weight", "crd_bt": "teacher.bias"}


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


def built(dtype=torch.float64, **settings) -> DCD:
    term = DCD(dim=16, **settings)
    term.setup(shown(array("e_s")), shown(array("e_t")))
    return term.to(dtype)


@entries("DCD")
def test_dcd_is_the_published_one(entry, dtype):
    given = entry["settings"]
    assert given["bias"] == 0
    term = built(dtype, consistency=given["alpha"], max_scale=given["max_tau"])
    with torch.no_grad():
        term.log_scale.fill_(given["log_tau"])

    def loss(own, answer, *layers):
        term_of = dict(zip(LAYERS.values(), layers, strict=True))
        return torch.func.functional_call(term, term_of, (shown(own), shown(answer), None))

    assert list(entry["inputs"])[2:] == list(LAYERS)
    agrees(entry, dtype, loss)


def test_it_is_what_the_two_parts_say():
    table = torch.randn(7, 7, dtype=torch.float64)
    contrast = F.cross_entropy(table, torch.arange(7))
    apart = F.kl_div(table.log_softmax(1), table.T.softmax(1), reduction="batchmean")
    torch.testing.assert_close(contrast_and_consistency(table, 0.3), contrast + 0.3 * apart)
    torch.testing.assert_close(contrast_and_consistency(table + 5, 0.3), contrast + 0.3 * apart)  # a bias
    alike = table + table.T  # consistent
    torch.testing.assert_close(contrast_and_consistency(alike, 9.0), F.cross_entropy(alike, torch.arange(7)))


def test_the_length_of_an_embedding_does_not_matter_and_twice_the_batch_does():
    table = 3 * F.normalize(array("e_s"), dim=-1) @ F.normalize(array("e_s"), dim=-1).T
    once, twice = contrast_and_consistency(table), contrast_and_consistency(table.repeat(2, 2))
    assert twice.item() == pytest.approx(once.item() + math.log(2), rel=1e-12)  # each image has a double beside it
    term = built()
    with torch.no_grad():
        term.student.bias.zero_()
    here, there = (term(shown(x * array("e_s")), shown(array("e_t")), None) for x in (1, 10))
    torch.testing.assert_close(here, there)


def test_the_scale_is_learned_up_to_its_limit():
    term = built()
    assert term.log_scale.item() == pytest.approx(1)
    for start, moves in ((1.0, True), (3.0, False)):
        with torch.no_grad():
            term.log_scale.fill_(start)
        term(shown(array("e_s")), shown(array("e_t")), None).backward()
        assert bool(term.log_scale.grad != 0) == moves
        term.log_scale.grad = None


def test_far_and_empty_embeddings_stay_finite_in_float32():
    term = built(torch.float32)
    for own, given in ((60.0, 1.0), (1e3, 1e3), (0.0, 1.0), (0.0, 0.0)):
        student = (own * array("e_s", torch.float32)).requires_grad_()
        loss = term(shown(student), shown(given * array("e_t", torch.float32)), None)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
    table = (60 * torch.randn(6, 6)).requires_grad_()
    contrast_and_consistency(table).backward()
    assert table.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    tables, shares = torch.randn(3, 5, 5).double(), torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    stacked = torch.func.vmap(torch.func.grad(contrast_and_consistency))(tables, shares)
    alone = [torch.func.grad(contrast_and_consistency)(t, s.item()) for t, s in zip(tables, shares, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(alone))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"consistency": -1}, "kd.consistency"), ({"scale": 0}, "kd.scale"), ({"max_scale": 1}, "kd.max_scale")]
    + [({"dim": 0}, "kd.dim")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        DCD(**settings)
    with pytest.raises(ValueError, match="kd=dcd .* larger train.batch_size"):
        built()(shown(array("e_s")[:1]), shown(array("e_t")[:1]), None)


def test_the_yaml_puts_every_number_in_its_place():
    numbers = ["kd.consistency=2", "kd.scale=3", "kd.max_scale=4", "kd.dim=5", "kd.hard=0.5", "kd.weight=6"]
    kd = compose("kd=dcd", *numbers).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["dcd"]
    assert (term.consistency, term.max_scale, term.dim) == (2, 4, 5)
    assert term.log_scale.exp().item() == pytest.approx(3) and objective.weights == {"hard": 0.5, "dcd": 6}
