"""DHKD: published values, invariances, gradients that conflict, the second head, and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from kd.interfaces import Batch, Outputs
from kd.methods.dhkd import DHKD, aligned, binary_kl_norm, log_cosh
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson


@entries("DHKD_BinaryKLNorm")
def test_the_loss_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda student, teacher: binary_kl_norm(student, teacher, entry["settings"]["T"]))


def test_zero_where_both_agree_and_twice_the_batch_or_all_numbers():
    student, teacher, _ = lesson()
    here = binary_kl_norm(student, teacher, 2.0)
    assert binary_kl_norm(teacher, teacher, 2.0) == 0 < here
    torch.testing.assert_close(binary_kl_norm(student.repeat(2, 1), teacher.repeat(2, 1), 2.0), here)
    torch.testing.assert_close(binary_kl_norm(2 * student, 2 * teacher, 4.0), 4 * here)
    assert binary_kl_norm(student + 1, teacher, 2.0) != here


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_far_logits_stay_finite_and_right_in_float32(temperature):
    given, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    for student in (given, -teacher, 60 * torch.ones_like(given), teacher + 1e-3, torch.zeros_like(given)):
        both = []
        for dtype in (torch.float32, torch.float64):
            x = student.detach().to(dtype, copy=True).requires_grad_()
            loss = binary_kl_norm(x, teacher.to(dtype), temperature)
            loss.backward()
            both.append((loss.detach().double(), x.grad.double()))
        for found, right in zip(*both, strict=True):
            assert found.isfinite().all()
            torch.testing.assert_close(found, right, rtol=2e-5, atol=1e-9)


def test_log_cosh_is_smooth_where_its_two_forms_meet():
    x = torch.tensor(
        [-1 - 1e-9, -1.0, -1 + 1e-9, 0.0, 1 - 1e-9, 1.0, 1 + 1e-9], dtype=torch.float64, requires_grad=True
    )
    value = log_cosh(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(value, torch.log(torch.cosh(x)))
    torch.testing.assert_close(slope, torch.tanh(x))


def parameters(count: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2, 3, dtype=torch.float64)) for _ in range(count)]


def flat(gradients, shared) -> torch.Tensor:
    return torch.cat([gradients[p].flatten() for p in shared])


@pytest.mark.parametrize("whole", [False, True])
def test_a_conflict_is_taken_out_of_the_second_gradient_alone(whole):
    torch.manual_seed(0)
    one, two, own, second = parameters(4)  # two layers below, the student's head and the second one
    labels = {p: torch.randn_like(p.detach()) for p in (one, two, own)}
    rest = {p: torch.randn_like(p.detach()) for p in (one, two, second)}
    rest[one] = rest[one] - 3 * labels[one]
    shared = [one, two]
    kept, before = {p: g.clone() for p, g in labels.items()}, flat(rest, shared)
    found = aligned(labels, rest, whole)
    assert all(torch.equal(labels[p], kept[p]) for p in kept) and torch.equal(found[second], rest[second])
    along, mine = flat(labels, shared), flat(labels, [one, two, own] if whole else shared)
    part = (along @ before) / (mine @ mine)
    assert part < 0
    torch.testing.assert_close(flat(found, shared), before - part * along)
    if whole:  # as coded
        torch.testing.assert_close(found[own], -part * labels[own])
    else:
        assert abs((flat(found, shared) @ along).item()) < 1e-12 and own not in found


def test_without_a_conflict_nothing_changes():
    one, own = parameters(2)
    labels = {one: torch.ones_like(one.detach()), own: torch.ones_like(own.detach())}
    for whole in (False, True):
        rest = {one: 2 * labels[one]}
        assert torch.equal(aligned(labels, rest, whole)[one], rest[one])
        zero = {p: 0 * gradient for p, gradient in labels.items()}
        assert torch.equal(aligned(zero, rest, whole)[one], rest[one])
    assert aligned(labels, {}) == {} and aligned({}, rest) == rest


def shown() -> tuple[Outputs, Outputs, Batch]:
    student, teacher, target = lesson()
    torch.manual_seed(1)
    return (
        Outputs(student, embedding=torch.randn(len(student), 5, dtype=torch.float64)),
        Outputs(teacher),
        Batch(None, target, None),
    )


def test_the_second_head_reads_the_embedding_and_is_the_authors():
    student, teacher, batch = shown()
    for hidden, names in ((200, ["Linear", "Dropout", "BatchNorm1d", "ReLU", "Linear"]), (0, ["Linear"])):
        term = DHKD(hidden=hidden)
        term.setup(student, teacher)
        layers = [module for module in term.head.modules() if not list(module.children())]
        assert [type(module).__name__ for module in layers] == names
        term.double().eval()
        right = binary_kl_norm(term.head(student.embedding), teacher.logits, 2.0)
        torch.testing.assert_close(term(student, teacher, batch), right)
    one = Outputs(student.logits[:1], embedding=student.embedding[:1])
    deep = DHKD()
    deep.setup(student, teacher)
    with pytest.raises(ValueError, match="second head of kd=dhkd"):
        deep(one, Outputs(teacher.logits[:1]), batch)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, _ = lesson()
    students, numbers = torch.randn(3, *teacher.shape, dtype=torch.float64), torch.tensor([1.0, 2.0, 4.0]).double()

    def slope(student, temperature):
        return torch.func.grad(lambda z: binary_kl_norm(z, teacher, temperature))(student)

    stacked = torch.func.vmap(slope)(students, numbers)
    torch.testing.assert_close(
        stacked, torch.stack([slope(s, t) for s, t in zip(students, numbers.tolist(), strict=True)])
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0}, "kd.temperature"),
        ({"align": "backbone"}, "kd.align must be one of shared, all, none"),
        ({"hidden": -1}, "kd.hidden"),
        ({"dropout": 1.0}, "kd.dropout"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        DHKD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    own = {"temperature": 3, "align": "none", "hidden": 7, "dropout": 0.0, "hard": 0.5, "weight": 4}
    kd = compose("kd=dhkd", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective, (student, teacher, batch) = Objective(instantiate(kd.terms), dict(kd.weights)), shown()
    objective.setup(student, teacher)
    objective.double()
    term = objective.terms["dhkd"]
    loss = objective(student, teacher, batch)[0]
    hard = torch.nn.functional.cross_entropy(student.logits, batch.target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * binary_kl_norm(term.head(student.embedding), teacher.logits, 3.0))
    assert term.head[0].out_features == 7 and term.head[1].p == 0 and not objective.aligning
    assert Objective({"dhkd": DHKD()}, {"dhkd": 1}).aligning
