"""PKD: published values, its correlation, and channels that are constant."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.pkd import PKD, correlation_loss
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


@entries("PKD")
def test_pkd_is_the_published_one(entry, dtype):
    def loss(student, teacher):
        term = PKD([-1])
        term.setup(shown(student), shown(teacher))
        return term(shown(student), shown(teacher), None)

    agrees(entry, dtype, loss)


def test_it_is_one_minus_the_correlation_of_channels():
    student, teacher = array("f_s_a"), array("f_t_a")
    pairs = [torch.stack([s.flatten(), t.flatten()]) for s, t in zip(student.unbind(1), teacher.unbind(1), strict=True)]
    correlation = sum(torch.corrcoef(pair)[0, 1] for pair in pairs) / 16
    count = student[:, 0].numel()
    expected = (1 - correlation) * (count - 1) / count
    assert correlation_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-5)


def test_sizes_and_means_of_channels_do_not_matter_and_batches_hardly():
    student, teacher = array("f_s_a"), array("f_t_a")
    here = correlation_loss(student, teacher).item()
    scale = torch.linspace(0.5, 2, 16, dtype=torch.float64).view(-1, 1, 1)
    assert correlation_loss(scale * student + scale, teacher / scale - 1).item() == pytest.approx(here, rel=1e-5)
    assert correlation_loss(scale * teacher + 1, teacher).item() == pytest.approx(0, abs=1e-10)
    twice = correlation_loss(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1)).item()
    assert twice == pytest.approx(here, rel=2 / student[:, 0].numel())


@pytest.mark.parametrize("case", ["far", "zeros", "alike", "equal"])
def test_float32_stays_finite(case):
    student, teacher = array("f_s_a").float(), array("f_t_a").float()
    own = {"far": 1e4 * student, "zeros": 0 * student, "alike": student[:1].expand(8, -1, -1, -1), "equal": teacher}
    own, given = own[case].clone().requires_grad_(), 0 * teacher if case == "zeros" else teacher
    loss = correlation_loss(own, given)
    loss.backward()
    assert loss.isfinite() and own.grad.isfinite().all()
    assert loss.item() == pytest.approx(correlation_loss(own.detach().double(), given.double()).item(), rel=1e-4)


def test_channels_are_mapped_where_they_differ_and_the_larger_map_is_pooled():
    term = PKD()
    own, given = (torch.randn(3, 4, 8, 8), torch.randn(3, 6, 1, 1)), (torch.randn(3, 4, 4, 4), torch.randn(3, 9, 2, 2))
    term.setup(shown(*own), shown(*given))
    assert isinstance(term.align[0], torch.nn.Identity) and term.align[1].weight.shape == (9, 6, 1, 1)
    pooled = torch.nn.functional.avg_pool2d(own[0], 2)
    deepest = correlation_loss(term.align[1](own[1]), given[1].mean((2, 3), keepdim=True))
    expected = correlation_loss(pooled, given[0]) + deepest
    torch.testing.assert_close(term(shown(*own), shown(*given), None), expected)


def test_one_image_and_wrong_stages_are_refused():
    term, one = PKD(), shown(torch.zeros(1, 3, 2, 2))
    term.setup(one, one)
    with pytest.raises(ValueError, match="kd=pkd compares the images of a batch"):
        term(one, one, None)
    with pytest.raises(ValueError, match="kd.stages"):
        PKD([-2]).setup(one, one)


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 4, 2, 6, 6).double(), torch.randn(4, 2, 6, 6).double()
    slopes = torch.func.vmap(torch.func.grad(correlation_loss), in_dims=(0, None))(students, teacher)
    one_by_one = [torch.func.grad(correlation_loss)(student, teacher) for student in students]
    torch.testing.assert_close(slopes, torch.stack(one_by_one))


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=pkd", "kd.stages=[-2]", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    own, given = shown(array("f_s_a"), array("f_s_b")), shown(array("f_t_a"), array("f_t_b"))
    objective.setup(own, given)
    loss = objective(own, given, Batch(None, torch.zeros(8, dtype=torch.int64), None))[0]
    expected = 0.5 * torch.log(torch.tensor(6.0)) + 4 * correlation_loss(array("f_s_a"), array("f_t_a"))
    torch.testing.assert_close(loss, expected, check_dtype=False)
