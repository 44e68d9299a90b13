"""CTKD: Hinton's term at a learned temperature; gradients by finite differences, curriculum, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.ctkd import CTKD, learned_temperature, reversal, reversed_gradient
from kd.methods.hinton import soft_label_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import array

VARIANTS = ["global", "instance"]


def at(progress: float) -> Batch:
    return Batch(None, None, None, progress=progress)


def pair(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(3 * torch.randn(count, 6, dtype=torch.float64, generator=generator) for _ in range(2))


def built(variant: str = "global", dtype: torch.dtype = torch.float64, **settings) -> CTKD:
    torch.manual_seed(0)
    term = CTKD(variant, **settings)
    term.setup(Outputs(torch.zeros(2, 6)), Outputs(torch.zeros(2, 6)))
    return term.to(dtype)


def loss(term: CTKD, student, teacher, progress: float = 1.0) -> torch.Tensor:
    return term(Outputs(student), Outputs(teacher), at(progress))


def slope(term: CTKD, parameter: torch.nn.Parameter, student, teacher) -> torch.Tensor:
    """Return the derivative of the loss with respect to a parameter, by central differences."""
    found = torch.zeros_like(parameter)
    with torch.no_grad():
        for place in range(parameter.numel()):
            was, values = parameter.view(-1)[place].item(), []
            for step in (1e-5, -1e-5):
                parameter.view(-1)[place] = was + step
                values.append(loss(term, student, teacher).item())
            parameter.view(-1)[place] = was
            found.view(-1)[place] = (values[0] - values[1]) / 2e-5
    return found


def test_at_the_start_it_is_hintons_term_at_15_6():
    student, teacher = pair()
    temperature = 1 + 20 / (1 + math.exp(-1))
    assert loss(built(), student, teacher).item() == pytest.approx(
        soft_label_kl(student, teacher, temperature).item(), rel=1e-12
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.9, 1.0)])
def test_theta_goes_up_the_loss_with_the_strength_of_the_curriculum(variant, progress, strength):
    """The optimiser gets -lambda times the true gradient."""
    student, teacher = pair()
    term = built(variant, curriculum=0.1)
    loss(term, student, teacher, progress).backward()
    for name, parameter in term.named_parameters():
        if name in ("theta", "look.2.weight", "look.2.bias"):
            true = slope(term, parameter, student, teacher)
            assert true.abs().max() > 1e-3
            torch.testing.assert_close(parameter.grad, -strength * true, rtol=1e-5, atol=1e-7)
    assert all((p.grad.abs().sum() > 0) == (strength > 0) for p in term.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_student_goes_down_the_loss_and_cannot_see_how_the_temperature_is_made(variant, progress):
    """The student's gradient is that of Hinton's term at the current temperatures."""
    student, teacher = pair()
    student.requires_grad_()
    term = built(variant)
    (got,) = torch.autograd.grad(loss(term, student, teacher, progress), student)
    with torch.no_grad():
        if variant == "global":
            theta = term.theta.expand(len(student))
        else:
            theta = term.look(torch.cat([student.softmax(-1), teacher.softmax(-1)], -1)).squeeze(-1)
        own, given = (x / learned_temperature(theta, 1.0, 20.0)[:, None] for x in (student, teacher))
        temperature = learned_temperature(theta, 1.0, 20.0)[:, None]
        expected = temperature * (own.softmax(-1) - given.softmax(-1)) / len(student)
    torch.testing.assert_close(got, expected)
    assert variant == "global" or theta.std() > 1e-3  # images do differ


def test_images_with_temperatures_of_their_own_are_images_alone():
    student, teacher = pair()
    temperatures = torch.linspace(1, 20, 8, dtype=torch.float64)
    alone = [soft_label_kl(s[None], t[None], T.item()) for s, t, T in zip(student, teacher, temperatures, strict=True)]
    got = soft_label_kl(student, teacher, temperatures[:, None])
    assert got.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-12)
    same = soft_label_kl(student, teacher, torch.full((8, 1), 4.0, dtype=torch.float64))
    assert same.item() == pytest.approx(soft_label_kl(student, teacher, 4.0).item(), rel=1e-12)


def test_the_reversal_rises_along_half_a_cosine():
    assert [reversal(p, 0.4) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 1, 1], abs=1e-15)
    # published, by epoch: (1 - cos(pi epoch / 10)) / 2
    assert reversal(3 / 240, 10 / 240) == pytest.approx((1 - math.cos(0.3 * math.pi)) / 2)
    assert reversal(0.0, 0.0) == 1.0


def test_a_reversed_gradient_leaves_the_value_alone():
    x = torch.tensor([0.1, -7.3e8, 1e-30], requires_grad=True)
    y = reversed_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.backward(torch.tensor([1.0, 2.0, -4.0]))
    torch.testing.assert_close(x.grad, torch.tensor([-0.3, -0.6, 1.2]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_temperature_stays_within_its_bounds_and_the_loss_finite(variant):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    for theta in (-1e4, 1e4):
        term = built(variant, torch.float32, lowest=1.0, span=20.0)
        with torch.no_grad():
            (term.theta if variant == "global" else term.look[-1].bias).fill_(theta)
        own = student.clone().requires_grad_()
        value = loss(term, own, teacher)
        value.backward()
        bound = 1.0 if theta < 0 else 21.0
        assert value.item() == pytest.approx(soft_label_kl(student, teacher, bound).item(), rel=1e-5)
        assert own.grad.isfinite().all() and all(p.grad.isfinite().all() for p in term.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_left_to_learn_from_an_equal(variant):
    teacher = array("z_t_ext", torch.float32)
    student = teacher.clone().requires_grad_()
    term = built(variant, torch.float32)
    value = loss(term, student, teacher)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-3)  # T^2 is 243
    assert student.grad.abs().max() < 1e-5 and all(p.grad.isfinite().all() for p in term.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_the_temperature_alone_makes_the_task_harder(variant):
    student, teacher = (10 * x for x in pair())  # of logits this large, the hardest temperature is higher than T = 15
    term = built(variant)
    optimizer = torch.optim.SGD(term.parameters(), 0.05)
    values = []
    for _ in range(20):
        value = loss(term, student, teacher)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values == sorted(values) and values[-1] > 1.01 * values[0]


def test_a_stack_of_students_learns_as_separate_students_do():
    """The temperature, its bounds and the strength are tensors, one a student."""
    teacher, students = pair()[1], torch.randn(3, 8, 6, dtype=torch.float64)
    thetas, spans, strengths = (torch.tensor(x, dtype=torch.float64) for x in ([-1, 0, 1], [5, 9, 20], [0, 0.5, 1]))

    def one(theta, student, span, strength):
        return soft_label_kl(student, teacher, learned_temperature(reversed_gradient(theta, strength), 1.0, span))

    stacked = torch.func.vmap(torch.func.grad_and_value(one))(thetas, students, spans, strengths)
    separate = [torch.func.grad_and_value(one)(*args) for args in zip(thetas, students, spans, strengths, strict=True)]
    for together, apart in zip(stacked, zip(*separate, strict=True), strict=True):
        torch.testing.assert_close(together, torch.stack(apart))


def test_the_yaml_weighs_and_bounds():
    node = compose(
        "kd=ctkd", "kd.alpha=0.25", "kd.lowest=2", "kd.span=4", "kd.curriculum=0.5", "kd.variant=instance"
    ).kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    term = objective.terms["soft"]
    assert (term.variant, term.lowest, term.span, term.curriculum) == ("instance", 2, 4, 0.5)
    assert objective.weights == {"hard": 0.75, "soft": 0.25}
    assert reversal(0.5 * 10 / 240, compose("kd=ctkd").kd.curriculum) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"variant": "image"}, "kd.variant must be one of global, instance"),
        ({"lowest": 0.0}, "kd.lowest must be above 0"),
        ({"span": -1.0}, "kd.span must be above 0"),
        ({"span": math.nan}, "kd.span must be above 0"),
        ({"curriculum": 1.5}, "kd.curriculum is a share"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        CTKD(**settings)
