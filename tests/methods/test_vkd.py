"""VkD: published values, and a projection that stays orthonormal whatever the optimiser does."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.vkd import VkD, orthonormal_columns, projected_distance
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


@entries("VkD")
def test_vkd_is_the_published_one(entry, dtype):
    weight = entry["settings"]["alpha"]
    agrees(entry, dtype, lambda own, given, p: weight * projected_distance(own, given, p))


@pytest.mark.parametrize(("rows", "columns"), [(32, 16), (16, 16), (3, 1)])
def test_columns_are_those_of_the_reflections_and_orthonormal(rows, columns):
    vectors = torch.geqrf(torch.randn(rows, columns, dtype=torch.float64))[0]
    found = orthonormal_columns(vectors)
    lower = vectors.tril(-1)
    torch.testing.assert_close(found, torch.linalg.householder_product(lower, 2 / (1 + lower.square().sum(0))))
    torch.testing.assert_close(found.T @ found, torch.eye(columns, dtype=torch.float64))
    none = orthonormal_columns(torch.zeros(rows, columns))
    torch.testing.assert_close(none, -torch.eye(rows, columns))


@pytest.mark.parametrize(("inside", "outside"), [(5, 9), (7, 7), (9, 5)])
def test_they_stay_so_under_weight_decay_and_large_steps(inside, outside):
    torch.manual_seed(0)
    own, given = shown(torch.randn(8, inside)), shown(torch.randn(8, outside))
    term = VkD()
    if outside < inside:
        with pytest.warns(UserWarning, match="drops 4 directions of the student"):
            term.setup(own, given)
    else:
        term.setup(own, given)
    optimizer, losses = torch.optim.AdamW(term.parameters(), 0.1, weight_decay=1.0), []
    for _ in range(30):
        loss = term(own, given, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    p = term.projection()
    assert p.shape == (outside, inside) and losses[-1] < losses[0]
    small = p @ p.T if outside < inside else p.T @ p
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)


def test_the_teachers_mean_and_scale_do_not_matter_and_its_own_layer_norm_is_reached():
    own, given, p = array("e_s"), array("e_t"), array("vkd_P")
    scale = torch.linspace(1e3, 1e4, 8, dtype=torch.float64)[:, None]
    here, there = (projected_distance(own, x, p) for x in (1e3 * given, scale * given + 3))
    torch.testing.assert_close(here, there, rtol=1e-8, atol=0)
    target = torch.nn.functional.layer_norm(given, (32,))
    assert projected_distance(target, given, torch.eye(32, dtype=torch.float64)).item() == 0
    twice = projected_distance(own.repeat(2, 1), given.repeat(2, 1), p)
    assert twice.item() == pytest.approx(projected_distance(own, given, p).item(), rel=1e-12)


def test_a_stack_of_students_has_a_projection_each():
    students, given = torch.randn(3, 8, 5).double(), torch.randn(8, 9).double()
    vectors = torch.randn(3, 9, 5).double()

    def loss(student, free):
        return projected_distance(student, given, orthonormal_columns(free))

    stacked = torch.func.vmap(torch.func.grad(loss, (0, 1)))(students, vectors)
    alone = [torch.func.grad(loss, (0, 1))(s, v) for s, v in zip(students, vectors, strict=True)]
    for found, expected in zip(stacked, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected))


def test_far_embeddings_stay_finite_in_float32():
    for own, given in ((60.0, 1.0), (1.0, 60.0), (0.0, 0.0)):
        student = (own * torch.randn(8, 5)).requires_grad_()
        term = VkD()
        answer = shown(given * torch.randn(8, 9))
        term.setup(shown(student), answer)
        loss = term(shown(student), answer, None)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all() and term.vectors.grad.isfinite().all()


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=vkd", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert isinstance(objective.terms["vkd"], VkD) and objective.weights == {"hard": 0.5, "vkd": 4}
