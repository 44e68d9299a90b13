"""EKD: published values, Dirichlet distributions of torch, large logits, and labels that are mixed or missing."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from torch.distributions import Dirichlet, kl_divergence

from kd.interfaces import Batch, Outputs
from kd.methods.ekd import (
    EvidentialCrossEntropy,
    EvidentialDistribution,
    EvidentialExpectation,
    digamma_of_exp,
    dirichlet_kl,
    evidential_cross_entropy,
    expectation_kl,
)
from kd.methods.hinton import soft_label_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson


@entries("EKD_dirichlet")
def test_the_distribution_is_the_published_one(entry, dtype):
    term = EvidentialDistribution(entry["settings"]["lambda"])
    agrees(entry, dtype, lambda z, t: term(Outputs(z), Outputs(t), None))


@entries("EKD_ce")
def test_the_labels_are_the_published_ones(entry, dtype):
    term = EvidentialCrossEntropy(entry["settings"]["lambda"])
    exact = 1e-8 if dtype == torch.float64 else None  # torch's trigamma has no more
    agrees(entry, dtype, lambda z, y: term(Outputs(z), None, Batch(None, y, None)), exact=exact)


@entries("EKD_div")
def test_the_expectation_is_the_published_one(entry, dtype):
    term = EvidentialExpectation(entry["settings"]["T"], entry["settings"]["lambda"])
    agrees(entry, dtype, lambda z, t: term(Outputs(z), Outputs(t), None))


def test_they_are_what_distributions_of_torch_say():
    student, teacher, target = lesson()
    own, given = (Dirichlet((1 + (1 + z.exp()).log()).log() + 0.3) for z in (student, teacher))
    prior = torch.tensor(0.3).double().log()
    torch.testing.assert_close(dirichlet_kl(student, teacher, prior), kl_divergence(given, own).mean())
    means = [Dirichlet((z / 2).exp() + 0.3).mean.log() for z in (student, teacher)]
    torch.testing.assert_close(expectation_kl(student, teacher, 2.0, prior), 4 * soft_label_kl(*means, 1.0))
    drawn = Dirichlet(student[:1].exp() + 0.3).sample((20_000,)).squeeze(1)
    expected = -drawn[:, target[0]].log().mean()
    assert evidential_cross_entropy(student, target, prior)[0].item() == pytest.approx(expected.item(), rel=0.05)


def test_without_a_prior_the_expectation_is_hintons_term():
    student, teacher, _ = lesson()
    assert expectation_kl(student, teacher, 4.0, -50).item() == pytest.approx(
        soft_label_kl(student, teacher, 4.0).item(), rel=1e-12
    )


def test_agreement_is_zero_a_shift_is_not_and_batches_do_not_matter():
    student, teacher, _ = lesson()
    for loss in (lambda s, t: dirichlet_kl(s, t, -1.22), lambda s, t: expectation_kl(s, t, 4.0, -1.22)):
        assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
        assert loss(teacher + 1, teacher) > 1e-3
        twice = loss(torch.cat([student] * 2), torch.cat([teacher] * 2))
        assert twice.item() == pytest.approx(loss(student, teacher).item(), rel=1e-12)
    scaled = expectation_kl(2 * student, 2 * teacher, 8.0, -1.22)
    assert scaled.item() == pytest.approx(4 * expectation_kl(student, teacher, 4.0, -1.22).item(), rel=1e-12)


def test_digamma_of_exp_has_no_step_and_no_end():
    x = torch.tensor([-3.0, 9.99, 10.0, 10.01, 12.0], dtype=torch.float64)
    torch.testing.assert_close(digamma_of_exp(x), torch.digamma(x.exp()), rtol=1e-14, atol=0)
    assert digamma_of_exp(torch.tensor([500.0])).item() == 500


@pytest.mark.parametrize("size", [1.0, 3.0])  # |z| = 60 and 180: exp(z) overflows in float32
def test_far_logits_stay_finite_in_float32(size):
    far, sure, target = size * array("z_s_ext").float(), size * array("z_t_ext").float(), array("y_ext")
    losses = [
        lambda s, t: dirichlet_kl(s, t, -1.22),
        lambda s, t: expectation_kl(s, t, 1.0, -1.22),
        lambda s, t: evidential_cross_entropy(s, target, -1.22).mean(),
    ]
    for loss in losses:
        for student in (far, -far, torch.zeros_like(far), sure):
            student = student.clone().requires_grad_()
            value = loss(student, sure)
            value.backward()
            assert value.isfinite() and value >= 0 and student.grad.isfinite().all()
            assert value.item() == pytest.approx(loss(student.detach().double(), sure.double()).item(), rel=2e-5)


def test_labels_that_are_mixed_weighted_or_missing_count_as_in_the_cross_entropy():
    student, _, target = lesson()
    other, lam, term = target.flip(0), torch.linspace(0, 1, 8, dtype=torch.float64), EvidentialCrossEntropy()
    own, mixed = (evidential_cross_entropy(student, y, -1.22) for y in (target, other))
    weight = torch.linspace(0.5, 2, 6, dtype=torch.float64)

    def loss(**more):
        return term(Outputs(student), None, Batch(None, more.pop("target", target), None, **more))

    torch.testing.assert_close(loss(mixup_target=other, mixup_lam=lam), (lam * own + (1 - lam) * mixed).mean())
    torch.testing.assert_close(loss(class_weight=weight), (weight[target] * own).mean())
    torch.testing.assert_close(loss(target=target.where(target > 2, -1), labelled=0.5), (own * (target > 2)).mean() * 2)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2, 4], [-1.22, 0, -3]], dtype=torch.float64)

    def slope(student, temperature, prior):
        terms = EvidentialCrossEntropy(prior), EvidentialExpectation(temperature, prior), EvidentialDistribution(prior)
        batch = Batch(None, target, None)
        return torch.func.grad(lambda z: sum(term(Outputs(z), Outputs(teacher), batch) for term in terms))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


def test_numbers_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="kd.temperature"):
        EvidentialExpectation(temperature=0)
    for term in (EvidentialCrossEntropy, EvidentialExpectation, EvidentialDistribution):
        with pytest.raises(ValueError, match="kd.prior"):
            term(prior=100.0)


def test_the_yaml_puts_every_number_in_its_place():
    numbers = {"temperature": 3, "prior": -0.5, "hard": 0.7, "expectation": 2, "distribution": 5, "warmup": 0.5}
    kd = compose("kd=ekd", *(f"kd.{name}={value}" for name, value in numbers.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.1))[0]
    expected = 0.7 * evidential_cross_entropy(student, target, -0.5).mean()
    expected = expected + 2 * expectation_kl(student, teacher, 3.0, -0.5) + dirichlet_kl(student, teacher, -0.5)
    torch.testing.assert_close(loss, expected)


def test_labels_are_those_of_the_blocks_that_learn_them_and_the_sum_over_views():
    logits, _, target = lesson()
    alone = EvidentialCrossEntropy()(Outputs(logits), None, Batch(None, target, None))
    rows = Batch(torch.zeros(2 * len(target)), target.repeat(2), torch.arange(2 * len(target)), views=2)
    twice = Outputs(torch.cat([logits, logits.flip(0)]))
    both = EvidentialCrossEntropy()(Outputs(logits.repeat(2, 1)), None, rows)
    torch.testing.assert_close(both, 2 * alone)
    torch.testing.assert_close(EvidentialCrossEntropy()(twice, None, rows._replace(label_blocks=1)), alone)
