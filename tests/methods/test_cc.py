"""CC: published values of both forms, a kernel in loops, what the values depend on, and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.cc import CC, congruence, gaussian_kernel, neighbour_congruence
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def pair(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, 5, dtype=torch.float64, generator=generator) for _ in range(2))


def gaussian_congruence(student, teacher):
    return congruence(gaussian_kernel(student), gaussian_kernel(teacher))


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


def built(student, teacher, **settings) -> CC:
    torch.manual_seed(0)
    term = CC(**settings)
    term.setup(shown(student), shown(teacher))
    return term.to(student.dtype)


@entries("CC_RepDistiller")
def test_the_congruence_of_neighbours_is_the_published_one(entry, dtype):
    def loss(student, teacher, *layers):
        if not layers:
            return neighbour_congruence(student, teacher)
        term = built(student, teacher, dim=24)
        state = dict(zip(["student.weight", "student.bias", "teacher.weight", "teacher.bias"], layers, strict=True))
        return torch.func.functional_call(term, state, (shown(student), shown(teacher), None))

    agrees(entry, dtype, loss)


@entries("CC_torchdistill")
def test_kernels_are_the_published_ones_and_the_norm_is_squared(entry, dtype):
    """Its value v is || . ||_F / B^2, ours || . ||_F^2 / B^2: v = sqrt(ours) / B, and so its gradient by the chain."""
    settings = entry["settings"]

    def loss(student, teacher):
        if settings["kernel"] == "gaussian":
            tables = [gaussian_kernel(x, settings["gamma"], settings["P"]) for x in (student, teacher)]
        else:
            tables = [x @ x.T for x in (student, teacher)]
        ours = congruence(*tables)
        assert ours.item() == pytest.approx(entry["value"] ** 2 * len(student) ** 2, rel=1e-5)
        return ours.sqrt() / len(student)

    agrees(entry, dtype, loss)


def reference(student: np.ndarray, teacher: np.ndarray, gamma: float, order: int) -> float:
    """Return the paper's loss of rows of length 1, pair by pair."""

    def kernel(a, b):
        dot = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        return sum(math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * dot**p for p in range(order + 1))

    count = len(student)
    return sum(
        (kernel(student[i], student[j]) - kernel(teacher[i], teacher[j])) ** 2
        for i in range(count)
        for j in range(count)
    ) / (count * count)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 3)])
def test_the_variant_of_the_paper_is_that_of_a_loop_over_pairs_behind_the_layers(gamma, order):
    student, teacher = pair()
    term = built(student, teacher, variant="paper", dim=4, gamma=gamma, order=order)
    own, given = term.student(student).detach().numpy(), term.teacher(teacher).detach().numpy()
    got = term(shown(student), shown(teacher), None).item()
    assert got == pytest.approx(reference(own, given, gamma, order), rel=1e-12)


def test_the_polynomial_tends_to_the_gaussian_of_distances():
    x = F.normalize(pair()[0], dim=-1)
    squares = torch.cdist(x, x).square()
    torch.testing.assert_close(gaussian_kernel(x, 0.4, 20), torch.exp(-0.4 * squares))
    assert (gaussian_kernel(x, 0.4, 2) - torch.exp(-0.4 * squares)).abs().max() < 0.05  # rest: .8^3 / 3! e^-.8 and less


def test_three_neighbours_by_hand():
    student = torch.tensor([[1.0, -2.0], [0.0, 3.0], [-4.0, 0.0]])
    assert neighbour_congruence(student, torch.zeros(3, 2)).item() == ((1 * 0 + 2 * 3) + (0 * 4 + 3 * 0)) / 2


def test_neighbours_depend_on_the_order_of_the_batch_and_the_kernel_does_not():
    student, teacher = pair()
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    before, after = neighbour_congruence(student, teacher), neighbour_congruence(student[order], teacher[order])
    assert abs(before.item() / after.item() - 1) > 1e-3
    before, after = gaussian_congruence(student, teacher), gaussian_congruence(student[order], teacher[order])
    assert after.item() == pytest.approx(before.item(), rel=1e-12)


def test_rotations_leave_the_kernel_alone():
    student, teacher = pair()
    rotated = [x @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q for x in (student, teacher)]
    assert gaussian_congruence(*rotated).item() == pytest.approx(
        gaussian_congruence(student, teacher).item(), rel=1e-12
    )
    assert gaussian_congruence(rotated[1], teacher).item() == pytest.approx(0, abs=1e-24)


def test_every_image_twice_keeps_the_squared_norm_and_halves_the_published_one():
    student, teacher = array("cc_s"), array("cc_t")
    once, twice = gaussian_congruence(student, teacher), gaussian_congruence(student.repeat(2, 1), teacher.repeat(2, 1))
    assert (twice / once).item() == pytest.approx(1, rel=1e-9)
    count = len(student)
    assert (twice.sqrt() / (2 * count) / (once.sqrt() / count)).item() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("variant", ["repdistiller", "paper"])
@pytest.mark.parametrize("case", ["equal", "zeros", "identical", "huge"])
def test_value_and_gradient_are_finite(case, variant):
    student, teacher = (array(name, torch.float32) for name in ("cc_s", "cc_t"))
    if case == "equal":
        student = teacher.clone()
    elif case == "zeros":
        student[:3] = 0
    elif case == "identical":
        student, teacher = student[:1].repeat(8, 1), teacher[:1].repeat(8, 1)
    elif case == "huge":
        student *= 1e6
    term = built(student, teacher, variant=variant)
    if case == "equal":
        term.teacher.load_state_dict(term.student.state_dict())
    student.requires_grad_()
    loss = term(shown(student), shown(teacher), None)
    loss.backward()
    assert loss.isfinite() and all(x.grad.isfinite().all() for x in (student, *term.parameters()))
    if case == "equal":
        assert loss.item() == 0 and (student.grad == 0).all()


def test_without_layers_too_a_student_that_is_its_teacher_has_no_gradient():
    """The gradient of torchdistill's root is undefined there; that of the square is 0."""
    teacher = array("cc_t")
    student = teacher.clone().requires_grad_()
    gaussian_congruence(student, teacher).backward()
    assert (student.grad == 0).all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 4, dtype=torch.float64), pair(6)[1]
    gammas = torch.tensor([0.1, 0.4, 2.0], dtype=torch.float64)

    def loss(student, gamma):
        kernels = gaussian_kernel(student, gamma), gaussian_kernel(teacher, gamma)
        return congruence(*kernels) + neighbour_congruence(student, teacher[:, :4])

    stacked = torch.func.vmap(loss)(students, gammas)
    separate = [loss(s, g.item()) for s, g in zip(students, gammas, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(separate))


def test_the_yaml_weighs_labels_and_congruence():
    node = compose(
        "kd=cc", "kd.variant=paper", "kd.dim=4", "kd.gamma=0.7", "kd.order=3", "kd.hard=0.5", "kd.weight=2"
    ).kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    student, teacher = pair()
    logits, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6
    own, given = Outputs(logits, student), Outputs(logits, teacher)
    objective.setup(own, given)
    objective.double()
    loss, _ = objective(own, given, Batch(None, target, None))
    term = objective.terms["cc"]
    projected = [layer(x).detach().numpy() for layer, x in ((term.student, student), (term.teacher, teacher))]
    hard = F.cross_entropy(logits, target).item()
    assert loss.item() == pytest.approx(0.5 * hard + 2 * reference(*projected, 0.7, 3), rel=1e-10)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"variant": "kernel"}, "kd.variant must be one of repdistiller, paper"),
        ({"dim": 0}, "kd.dim is a width"),
        ({"gamma": 0}, "kd.gamma must be above 0"),
        ({"order": 0}, "kd.order must be a whole number"),
        ({"order": 1.5}, "kd.order must be a whole number"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        CC(**settings)


def test_a_teacher_without_embedding_and_a_batch_of_one_are_refused():
    student, teacher = pair()
    for silent in (None, Outputs(torch.zeros(2, 6))):
        with pytest.raises(ValueError, match=r"the teacher shows none.*teacher.source=auto"):
            CC().setup(shown(student), silent)
    with pytest.raises(ValueError, match="kd=cc compares the images of a batch"):
        built(student, teacher)(shown(student[:1]), shown(teacher[:1]), None)
