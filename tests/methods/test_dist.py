"""DIST: published values, invariances of a correlation, the effect of eps, and parts without a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dist import DIST, correlation, dist
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def lesson(classes: int = 6, count: int = 8):
    torch.manual_seed(0)
    return torch.randn(2, count, classes, dtype=torch.float64).unbind()


def called(term, student, teacher):
    return term(Outputs(student), Outputs(teacher), None)


@entries("DIST")
def test_dist_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    term = DIST(settings["tau"], settings["beta"], settings["gamma"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_dist_against_numpys_correlation():
    student, teacher = lesson()
    p, q = ((z / 2).softmax(-1).numpy() for z in (student, teacher))
    rows = np.mean([np.corrcoef(p[b], q[b])[0, 1] for b in range(len(p))])
    columns = np.mean([np.corrcoef(p[:, k], q[:, k])[0, 1] for k in range(p.shape[1])])
    expected = 4 * (3 * (1 - rows) + 0.5 * (1 - columns))
    assert dist(student, teacher, 2.0, 3.0, 0.5).item() == pytest.approx(expected, rel=1e-6)  # eps is the rest


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_positive_affine_maps_of_a_row_or_column_do_not_matter(along):
    p, q = (z.softmax(-1) if along == "rows" else z.softmax(-1).mT for z in lesson())
    scale, shift = torch.rand(2, len(p), 1, dtype=torch.float64) + 0.5
    expected = correlation(p, q).mean().item()
    assert correlation(scale * p + shift, q).mean().item() == pytest.approx(expected, abs=1e-7)


def test_a_student_half_as_sure_as_its_teacher_is_not_blamed():
    """Probabilities half way to uniform ones are an affine map of each row and of each column."""
    _, teacher = lesson()
    even = (0.5 * teacher.softmax(-1) + 0.5 / 6).log()
    assert dist(even, teacher, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_the_opposite_of_the_teacher_is_two_for_each_part():
    _, teacher = lesson()
    p = (teacher / 8).softmax(-1)
    opposite = (2 / 6 - p).log()
    assert dist(opposite, p.log(), 1.0, 1.0, 0.0).item() == pytest.approx(2, abs=1e-5)
    assert dist(opposite, p.log(), 1.0, 0.0, 1.0).item() == pytest.approx(2, abs=1e-5)


def test_a_student_that_equals_its_teacher_keeps_what_eps_leaves():
    teacher = array("z_t_c100")
    p = (teacher / 4).softmax(-1)
    left = 0.0
    for q in (p, p.mT):
        squared = ((q - q.mean(-1, keepdim=True)) ** 2).sum(-1)
        left += 16 * (1e-8 / (squared + 1e-8)).mean().item()
    assert left > 1e-6
    assert dist(teacher, teacher, 4.0).item() == pytest.approx(left, abs=1e-13)


def test_twice_the_same_batch_is_the_same_loss():
    given = lesson()
    twice = [torch.cat([x, x]) for x in given]
    assert dist(*twice, 1.0).item() == pytest.approx(dist(*given, 1.0).item(), rel=1e-6)


def test_a_batch_of_one_is_refused():
    student, teacher = lesson(count=1)
    with pytest.raises(ValueError, match="kd=dist compares the images of a batch"):
        called(DIST(), student, teacher)


def test_of_two_classes_the_inter_part_has_no_gradient_and_the_term_says_so():
    student, teacher = lesson(2)
    slopes = []
    for inter, intra in ((1.0, 0.0), (0.0, 1.0)):
        z = student.clone().requires_grad_()
        dist(z, teacher, 1.0, inter, intra).backward()
        slopes.append(z.grad.norm().item())
    assert slopes[0] < 1e-5 < 1e-2 < slopes[1]
    with pytest.warns(UserWarning, match="two classes: .* no gradient"):
        DIST().setup(Outputs(student), Outputs(teacher))


def flat(student, teacher):
    """One row of the student and another of the teacher are constant, and all images are alike."""
    student, teacher = student.clone(), teacher.clone()
    student[0], teacher[1] = 0, 0
    yield student, teacher
    yield student[:1].expand_as(student), teacher
    yield torch.zeros_like(student), torch.zeros_like(teacher)
    yield teacher, teacher


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_constant_rows_and_columns_are_finite_in_value_and_gradient(dtype):
    for student, teacher in flat(*(z.to(dtype) for z in lesson())):
        student = student.clone().requires_grad_()
        loss = dist(student, teacher, 1.0)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    for apart in (student, 60 - 120 * torch.eye(6)[torch.arange(len(student)) % 6], teacher):
        apart = apart.clone().requires_grad_()
        loss = dist(apart, teacher, temperature)
        loss.backward()
        assert loss.isfinite() and apart.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 4.0, 2.0], [1.0, 0.0, 2.0], [1.0, 3.0, 0.5]], dtype=torch.float64)

    def slope(student, *settings):
        term = DIST(*settings)
        return torch.func.grad(lambda z: called(term, z, teacher))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"temperature": 0}, "kd.temperature"), ({"inter": -1}, "kd.inter"), ({"intra": -0.5}, "kd.intra")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        DIST(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=dist", "kd.temperature=3", "kd.inter=2", "kd.intra=5", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    (student, teacher), target = lesson(), torch.arange(8) % 6
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * dist(student, teacher, 3.0, 2.0, 5.0))
