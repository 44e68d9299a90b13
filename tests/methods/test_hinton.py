"""Value and gradient of the logit losses agree with the published implementations."""

from __future__ import annotations

import pytest
import torch

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import Hinton, soft_label_kl
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


@entries("CE_label_smoothing")
def test_cross_entropy_is_the_published_one(entry, dtype):
    term = CrossEntropy(entry["settings"]["label_smoothing"])
    agrees(entry, dtype, lambda z, target: term(Outputs(z), None, Batch(None, target, None)))


@entries("KD")
def test_soft_labels_are_the_published_ones(entry, dtype):
    term = Hinton(entry["settings"]["T"])
    agrees(entry, dtype, lambda student, teacher: term(Outputs(student), Outputs(teacher), None))


@entries("KD_total")
def test_the_weighted_sum_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    objective = Objective(
        {"hard": CrossEntropy(), "soft": Hinton(settings["T"])},
        {"hard": settings["ce_weight"], "soft": settings["kd_weight"]},
    )

    def loss(student, teacher, target):
        return objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]

    agrees(entry, dtype, loss)


def test_alpha_weighs_the_teacher_and_one_minus_alpha_the_labels():
    from hydra.utils import instantiate

    kd = compose("kd.alpha=0.3", "kd.temperature=2").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = torch.randn(5, 6), torch.randn(5, 6), torch.randint(0, 6, (5,))
    loss, parts = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))
    hard = torch.nn.functional.cross_entropy(student, target)
    soft = 4 * torch.nn.functional.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="batchmean"
    )
    torch.testing.assert_close(loss, 0.7 * hard + 0.3 * soft)
    torch.testing.assert_close(parts["soft"], soft)


def test_kl_is_zero_only_up_to_a_shift_and_tends_to_a_quadratic_form():
    student, teacher = torch.randn(2, 4, 7, dtype=torch.float64)
    assert soft_label_kl(teacher + 3, teacher, 4.0).item() == pytest.approx(0, abs=1e-12)
    apart = student - teacher
    limit = ((apart - apart.mean(-1, keepdim=True)) ** 2).sum(-1).mean() / (2 * 7)
    assert soft_label_kl(student, teacher, 1e4).item() == pytest.approx(limit.item(), rel=1e-3)


def test_a_stack_of_students_learns_as_separate_students_do():
    """The term takes T as a tensor and runs under vmap."""
    students, teacher = torch.randn(3, 4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 4.0, 8.0], dtype=torch.float64)
    stacked = torch.func.vmap(soft_label_kl, in_dims=(0, None, 0))(students, teacher, temperatures)
    one_by_one = [soft_label_kl(s, teacher, t.item()) for s, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="kd.temperature must be above 0"):
        Hinton(temperature)


def soft_pair() -> tuple[torch.Tensor, torch.Tensor, float]:
    student, teacher = array("z_s_c6"), array("z_t_c6")
    return student, teacher, soft_label_kl(student, teacher, 4.0).item()


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_is_t_times_the_difference_of_probabilities(temperature):
    student, teacher, _ = soft_pair()
    student.requires_grad_()
    soft_label_kl(student, teacher, temperature).backward()
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)) / len(student)
    torch.testing.assert_close(student.grad, expected, rtol=0, atol=1e-14)
    assert student.grad.sum(-1).abs().max() < 1e-14


@pytest.mark.parametrize("temperature", [1e2, 1e3, 1e4])
def test_the_gap_to_the_quadratic_form_shrinks_like_one_over_t(temperature):
    student, teacher, _ = soft_pair()
    apart = student - teacher
    limit = ((apart - apart.mean(-1, keepdim=True)) ** 2).sum(-1).mean() / (2 * student.shape[-1])
    assert soft_label_kl(student, teacher, temperature).item() == pytest.approx(limit.item(), rel=5 / temperature)


def test_scale_order_of_classes_padding_shift_and_a_doubled_batch():
    student, teacher, expected = soft_pair()
    order = torch.randperm(6)
    pad = torch.full((8, 7), -1e4, dtype=torch.float64)
    same = {
        "T^2 KD(z / T, 1)": 16 * soft_label_kl(student / 4, teacher / 4, 1.0),
        "classes in another order": soft_label_kl(student[:, order], teacher[:, order], 4.0),
        "seven classes": soft_label_kl(torch.cat([student, pad], 1), torch.cat([teacher, pad], 1), 4.0),
        "shifted rows": soft_label_kl(student + torch.randn(8, 1), teacher + torch.randn(8, 1), 4.0),
        "every image twice": soft_label_kl(student.repeat(2, 1), teacher.repeat(2, 1), 4.0),
    }
    assert {name: value.item() for name, value in same.items()} == pytest.approx(
        dict.fromkeys(same, expected), rel=1e-12
    )


def test_cross_entropy_does_not_know_how_often_a_batch_is_repeated():
    logits, target = array("z_s_c6"), array("y_c6")
    once = CrossEntropy(0.1)(Outputs(logits), None, Batch(None, target, None))
    twice = CrossEntropy(0.1)(Outputs(logits.repeat(2, 1)), None, Batch(None, target.repeat(2), None))
    torch.testing.assert_close(twice, once, rtol=1e-12, atol=0)
