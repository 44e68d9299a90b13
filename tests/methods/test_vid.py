"""VID: published values, bounds, and extreme variances."""

from __future__ import annotations

import math

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.vid import VariationalInformation, negative_log_likelihood, rho_of, variance_of
from tests.methods.published import agrees, array, entries


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


@entries("VID")
def test_value_and_both_gradients_are_the_published_ones(entry, dtype):
    agrees(entry, dtype, negative_log_likelihood)


def test_it_is_the_density_of_a_gaussian_up_to_a_constant():
    mean, teacher, rho = array("f_s_a"), array("f_t_a"), array("vid_rho_a")
    gaussian = torch.distributions.Normal(mean, variance_of(rho).sqrt().view(-1, 1, 1))
    expected = -gaussian.log_prob(teacher).mean() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(negative_log_likelihood(mean, teacher, rho), expected)


def test_batch_duplication_changes_nothing():
    mean, teacher, rho = array("f_s_a"), array("f_t_a"), array("vid_rho_a")
    twice = negative_log_likelihood(mean.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1), rho)
    assert twice.item() == pytest.approx(negative_log_likelihood(mean, teacher, rho).item(), rel=1e-12)


def test_a_right_mean_leaves_the_logarithm_of_the_variance():
    teacher, rho = array("f_t_a"), array("vid_rho_a")
    expected = ((1 + rho.exp()).log() + 1e-5).log().mean() / 2
    torch.testing.assert_close(negative_log_likelihood(teacher, teacher, rho), expected)


def test_it_begins_at_variance_five_as_a_tenth_of_the_squared_error():
    mean, teacher = array("f_s_a"), array("f_t_a")
    rho = torch.full((16,), rho_of(5.0), dtype=torch.float64)
    assert variance_of(rho).tolist() == pytest.approx([5.0] * 16, rel=1e-12)
    expected = 0.1 * (mean - teacher).square().mean() + math.log(5) / 2
    torch.testing.assert_close(negative_log_likelihood(mean, teacher, rho), expected)
    method = VariationalInformation()
    method.setup(shown(mean.float()), shown(teacher.float()))
    assert variance_of(method.rhos[0]).tolist() == pytest.approx([5.0] * 16, rel=1e-6)


def test_the_best_variance_is_the_mean_squared_error_of_the_channel():
    mean, teacher = torch.randn(2, 6, 4, 5, 5, dtype=torch.float64).unbind()
    errors = (mean - teacher).square().mean((0, 2, 3))
    rho = torch.tensor([rho_of(error.item()) for error in errors], dtype=torch.float64, requires_grad=True)
    negative_log_likelihood(mean, teacher, rho).backward()
    assert rho.grad.abs().max() < 1e-15


@pytest.mark.parametrize("rho", [-120.0, -30.0, 0.0, 30.0, 100.0])
def test_variances_far_out_stay_finite_in_float32(rho):
    mean, teacher = array("f_s_a", torch.float32).requires_grad_(), array("f_t_a", torch.float32)
    far = torch.full((16,), rho, requires_grad=True)
    value = negative_log_likelihood(mean, teacher, far)
    value.backward()
    assert value.isfinite() and mean.grad.isfinite().all() and far.grad.isfinite().all()
    exact = math.log1p(math.exp(rho)) if rho < 50 else rho
    assert variance_of(far).tolist() == pytest.approx([exact + 1e-5] * 16, rel=1e-6)


def test_the_variance_learns_and_stages_add_up():
    student, teacher = [torch.randn(4, 3, s, s) for s in (8, 4)], [torch.randn(4, 6, s, s) for s in (4, 4)]
    method = VariationalInformation(variance=2.0)
    method.setup(shown(*student), shown(*teacher))
    assert {name for name, _ in method.named_parameters() if name.startswith("rhos")} == {"rhos.0", "rhos.1"}
    loss = method(shown(*student), shown(*teacher), None)
    pooled = torch.nn.functional.adaptive_avg_pool2d(student[0], 4)
    expected = negative_log_likelihood(method.regressors[0](pooled), teacher[0], method.rhos[0])
    expected = expected + negative_log_likelihood(method.regressors[1](student[1]), teacher[1], method.rhos[1])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(rho.grad.abs().min() > 0 for rho in method.rhos)


def test_a_stack_of_students_learns_as_separate_students_do():
    means, teacher, rhos = torch.randn(3, 4, 2, 5, 5), torch.randn(4, 2, 5, 5), torch.randn(3, 2)
    stacked = torch.func.vmap(negative_log_likelihood, in_dims=(0, None, 0))(means, teacher, rhos)
    one_by_one = [negative_log_likelihood(m, teacher, r) for m, r in zip(means, rhos, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("variance", [0, 1e-5, -1.0, 1e4])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(ValueError, match="kd.variance must lie above"):
        VariationalInformation(variance)
