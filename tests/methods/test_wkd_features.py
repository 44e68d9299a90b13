"""WKD-F: published values, the cells of a grid, and what its statistics do not see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.wkd_features import WKDFeatures, cell_statistics, gaussian_distance
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(x) -> Outputs:
    return Outputs(torch.zeros(len(x), 6), None, (x,))


@entries("WKD_F")
def test_wkd_f_is_the_published_one(entry, dtype):
    at = entry["settings"]

    def loss(own, given, weight=None, bias=None, gamma=None, beta=None):
        if weight is not None:
            own = F.batch_norm(F.conv2d(own, weight, bias), None, None, gamma, beta, training=True).relu()
        return gaussian_distance(own, given, at["mean_cov_ratio"], at["grid"])

    agrees(entry, dtype, loss)


def test_through_the_module_the_student_has_its_own_layers():
    own, given = array("f_s_c"), array("f_t_a")
    term = WKDFeatures(3.0, 2)
    term.setup(shown(own), shown(given))
    term.double()
    (convolution, norm, _) = term.widen[0]
    read = F.batch_norm(convolution(own), None, None, norm.weight, norm.bias, training=True).relu()
    torch.testing.assert_close(term(shown(own), shown(given), None), gaussian_distance(read, given, 3.0, 2))
    deep = WKDFeatures(bottleneck=5)
    deep.setup(shown(own), shown(given))
    shapes = [tuple(layer[0].weight.shape) for layer in deep.widen]
    assert shapes == [(5, own.shape[1], 1, 1), (5, 5, 3, 3), (given.shape[1], 5, 1, 1)]


@pytest.mark.parametrize(("side", "grid"), [(8, 1), (8, 4), (7, 4), (7, 3), (5, 5), (1, 1)])
def test_cells_are_those_of_adaptive_pooling(side, grid):
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
    means, deviations = cell_statistics(x, grid)
    torch.testing.assert_close(means.unflatten(-1, (grid, grid)), F.adaptive_avg_pool2d(x, grid))
    assert deviations.isfinite().all() and deviations.min() >= 1e-5**0.5
    if grid == 1:
        torch.testing.assert_close(deviations.squeeze(-1), (x.flatten(2).var(-1) + 1e-5).sqrt())


def test_the_order_of_places_does_not_matter_agreement_is_zero_and_batches_are_means():
    own, given = array("f_s_a"), array("f_t_a")
    here = gaussian_distance(own, given).item()
    assert gaussian_distance(own.flip(-1), given.flip(-2)).item() == pytest.approx(here, rel=1e-12)
    assert gaussian_distance(own.repeat(2, 1, 1, 1), given.repeat(2, 1, 1, 1)).item() == pytest.approx(here, rel=1e-12)
    assert gaussian_distance(given, given, 4.0, 2).item() == 0
    moved = gaussian_distance(given + 1, given, 2.0).item()
    assert moved == pytest.approx(2 * given.shape[1])  # a shift is in the means alone


@pytest.mark.parametrize(("own", "given"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (60.0, 60.0)])
def test_constant_and_far_maps_have_finite_gradients(own, given):
    student = (own * array("f_s_a", torch.float32)).requires_grad_()
    loss = gaussian_distance(student, given * array("f_t_a", torch.float32), 4.0, 2)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given = torch.randn(3, 4, 5, 6, 6).double(), torch.randn(4, 5, 6, 6).double()
    slope = torch.func.grad(lambda own, ratio: gaussian_distance(own, given, ratio, 2))
    ratios = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    separate = [slope(own, ratio.item()) for own, ratio in zip(students, ratios, strict=True)]
    torch.testing.assert_close(torch.func.vmap(slope)(students, ratios), torch.stack(separate))


def test_maps_that_are_too_small_are_refused_or_said():
    wide, narrow, place = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2), torch.randn(2, 3, 1, 1)
    with pytest.raises(ValueError, match="use kd.grid=2 or less"):
        WKDFeatures(grid=4).setup(shown(wide), shown(narrow))
    with pytest.warns(UserWarning, match="WKD-F: the teacher's last map is a single place"):
        WKDFeatures().setup(shown(wide), shown(place))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"ratio": -1}, "kd.ratio"), ({"grid": 0}, "kd.grid"), ({"bottleneck": -1}, "kd.bottleneck")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        WKDFeatures(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    given = {"ratio": 2.0, "grid": 3, "bottleneck": 7, "hard": 0.5, "weight": 4.0, "fall": 0.25}
    kd = compose("kd=wkd_features", *(f"kd.{name}={value}" for name, value in given.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    term = objective.terms["wkd_features"]
    assert (term.ratio, term.grid, term.bottleneck) == (2, 3, 7)
    assert objective.weights == {"hard": 0.5, "wkd_features": 4}
    assert objective.schedule == {"wkd_features": {"fall": 0.25}}
