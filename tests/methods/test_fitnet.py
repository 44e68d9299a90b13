"""FitNets: published values, the regressors, and the trained parameters in each of the two stages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd.interfaces import Batch, Outputs, extract_outputs
from kd.methods.fitnet import FitNet, hint
from kd.models.tiny_cnn import TinyCNN
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


def made(adapter: str, student, teacher) -> FitNet:
    method = FitNet(adapter, stages=[-1])
    method.setup(shown(student.detach()), shown(teacher))
    return method.to(student.dtype)


@entries("FitNets_MSE")
def test_maps_as_they_are(entry, dtype):
    def loss(student, teacher):
        return made("none", student, teacher)(shown(student), shown(teacher), None)

    agrees(entry, dtype, loss)


@entries("FitNets_conv1x1")
def test_through_a_convolution(entry, dtype):
    def loss(student, teacher, weight):
        method = made("conv", student, teacher)
        method.regressors[0].weight.data = weight
        return method(shown(student), shown(teacher), None)

    agrees(entry, dtype, loss)


@pytest.mark.filterwarnings("ignore:the teacher's maps have negative values")  # no map after a ReLU has any
@entries("FitNets_ConvReg")
def test_through_convolution_norm_and_relu(entry, dtype):
    def loss(student, teacher, weight, bias, gamma, beta):
        if weight.shape[-1] > 1:  # a strided convolution in the published code, where this method pools
            regressed = F.conv2d(student, weight, bias, stride=2, padding=1)
            return hint(F.batch_norm(regressed, None, None, gamma, beta, training=True).relu(), teacher)
        method = made("conv_norm_relu", student, teacher)
        convolution, norm, _ = method.regressors[0]
        convolution.weight.data, norm.weight.data, norm.bias.data = weight, gamma, beta
        return method(shown(student), shown(teacher), None)

    agrees(entry, dtype, loss)


def test_batch_duplication_changes_nothing():
    student, teacher = array("f_s_a"), array("f_t_a")
    twice = hint(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    assert twice.item() == pytest.approx(hint(student, teacher).item(), rel=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [(8, 4), (4, 8), (8, 3), (1, 4)])
def test_the_larger_map_is_pooled(ours, theirs):
    student, teacher = torch.randn(2, 3, ours, ours), torch.randn(2, 3, theirs, theirs)
    size = min(ours, theirs)
    expected = (F.adaptive_avg_pool2d(student, size) - F.adaptive_avg_pool2d(teacher, size)).pow(2).mean()
    torch.testing.assert_close(made("none", student, teacher)(shown(student), shown(teacher), None), expected)


def test_stages_add_up_and_the_default_is_the_last_but_one():
    student = [torch.randn(2, 4, side, side) for side in (8, 4, 2)]
    teacher = [torch.randn(2, 4, side, side) for side in (16, 8, 4, 2)]
    parts = {}
    for stages in ([-1], [-2], [-3], None, [-3, -1]):
        method = FitNet("none", stages)
        method.setup(shown(*student), shown(*teacher))
        parts[str(stages)] = method(shown(*student), shown(*teacher), None)
    torch.testing.assert_close(parts["[-2]"], (student[1] - teacher[2]).pow(2).mean())
    torch.testing.assert_close(parts["None"], parts["[-1]"] + parts["[-2]"] + parts["[-3]"])
    torch.testing.assert_close(parts["[-3, -1]"], parts["[-1]"] + parts["[-3]"])
    assert FitNet().stages == (-2,) and compose("kd=fitnet").kd.stages == [-2]


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 4, 2, 8, 8), torch.randn(4, 2, 4, 4)
    stacked = torch.func.vmap(hint, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([hint(student, teacher) for student in students]))


def test_a_regressor_of_none_wants_equal_channels():
    with pytest.raises(ValueError, match="student's map has 4 channels and the teacher's 6: use kd.adapter=conv"):
        made("none", torch.rand(2, 4, 3, 3), torch.rand(2, 6, 3, 3))


def test_an_unknown_regressor_is_refused():
    with pytest.raises(ValueError, match="kd.adapter must be one of conv_norm_relu, conv, none, got 'linear'"):
        FitNet("linear")


def test_maps_that_a_relu_cannot_match_cause_a_warning():
    student, teacher = torch.rand(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    with pytest.warns(UserWarning, match="which a ReLU cannot match; kd.adapter=conv can"):
        made("conv_norm_relu", student, teacher)


class Stage:
    """Return the gradients of kd=fitnet_two_stage at one point of the training."""

    def __init__(self, progress: float, *overrides: str):
        from hydra.utils import instantiate

        kd = compose("kd=fitnet_two_stage", *overrides).kd
        torch.manual_seed(0)
        self.student, teacher = TinyCNN(6, 16, width=0.25), TinyCNN(6, 16, width=0.5).eval()
        image = torch.rand(8, 3, 16, 16)
        self.objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
        with torch.no_grad():
            answer = extract_outputs(teacher, image)
            self.objective.setup(extract_outputs(self.student, image), answer)
        batch = Batch(image, torch.arange(8) % 6, torch.arange(8), progress=progress)
        self.loss, self.parts = self.objective(extract_outputs(self.student, image), answer, batch)
        self.loss.backward()

    def learns(self, module: nn.Module) -> bool:
        return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_first_stage_is_the_hint_alone_and_teaches_up_to_the_guided_layer():
    stage = Stage(0.29)
    torch.testing.assert_close(stage.loss, stage.parts["hint"])
    first, hinted, above = stage.student.stages
    assert stage.learns(first) and stage.learns(hinted) and stage.learns(stage.objective.terms["hint"])
    assert not stage.learns(above) and not stage.learns(stage.student.classifier)


def test_the_second_stage_is_labels_and_soft_labels_and_teaches_all_but_the_regressor():
    stage = Stage(0.3, "kd.alpha=0.4")
    torch.testing.assert_close(stage.loss, 0.6 * stage.parts["hard"] + 0.4 * stage.parts["soft"])
    assert all(stage.learns(module) for module in (*stage.student.stages, stage.student.classifier))
    assert not stage.learns(stage.objective.terms["hint"])


@pytest.mark.parametrize("share", [0, 1])
def test_a_stage_of_no_length_is_refused(share):
    with pytest.raises(ValueError, match="a schedule needs"):
        Stage(0.5, f"kd.hint_share={share}")
