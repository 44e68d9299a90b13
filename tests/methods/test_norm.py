"""NORM: published values, and layers that vanish into the classifier of the student."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Context, Outputs
from kd.methods.norm import NORM, match_groups
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_contract import Lesson, network, of_timm


def context(student, teacher=None, side: int = 16) -> Context:
    return Context(student, teacher or network(0.5).eval(), None, None, None, None, side)


@entries("NORM")
def test_norm_is_the_published_one(entry, dtype):
    agrees(entry, dtype, match_groups)


def test_each_group_learns_the_whole_map_and_a_larger_one_is_pooled_by_its_maxima():
    own, given = torch.randn(3, 10, 4, 4).double(), torch.randn(3, 5, 8, 8).double()
    small = F.max_pool2d(given, 2)
    expected = F.mse_loss(own[:, :5], small) + F.mse_loss(own[:, 5:], small)
    torch.testing.assert_close(match_groups(own, given), expected)
    torch.testing.assert_close(match_groups(given, own[:, :5]), F.mse_loss(F.avg_pool2d(given, 2), own[:, :5]))
    assert match_groups(given.repeat(1, 4, 1, 1), given).item() == 0
    assert match_groups(own.repeat(2, 1, 1, 1), given.repeat(2, 1, 1, 1)).item() == pytest.approx(expected.item())


def trained(student, side: int = 16):
    """Return the term, the student with its layers after some steps, and an image."""
    torch.manual_seed(0)
    term = NORM(2)
    widened = term.bind(context(student, side=side))
    optimizer = torch.optim.SGD(widened.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(widened(torch.rand(12, 3, side, side)), torch.arange(12) % 6).backward()
        optimizer.step()
    return term, widened, torch.rand(5, 3, side, side)


@pytest.mark.parametrize(("name", "side"), [("tiny", 16), ("resnet10t", 48), ("densenet121", 48)])
def test_the_deployed_student_answers_the_same_with_the_parameters_that_it_had(name, side):
    student = network(0.25) if name == "tiny" else of_timm(name)
    term, widened, image = trained(student, side)
    before = copy.deepcopy(widened.state_dict())
    deployed = term.deploy(widened)
    expected = {key: value.shape for key, value in student.state_dict().items()}
    assert {key: value.shape for key, value in deployed.state_dict().items()} == expected
    widened.eval(), deployed.eval()
    with torch.no_grad():
        whole, alone = widened(image), student.eval()(image)
        torch.testing.assert_close(deployed(image), whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
    assert not torch.allclose(whole, alone, atol=1e-2)
    assert all(torch.equal(before[key], value) for key, value in widened.state_dict().items())


def test_the_student_itself_stays_as_it_is_and_the_wide_map_comes_last():
    student = network(0.25)
    before = copy.deepcopy(student.state_dict())
    term, widened, image = trained(student)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    last, features = widened.forward_intermediates(image)
    teacher = network(0.5).eval().forward_intermediates(image)[1]
    assert features[-1].shape[1] == 2 * teacher[-1].shape[1] and len(features) == len(teacher) + 1
    torch.testing.assert_close(widened.forward_head(last), widened(image))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_a_student_whose_classifier_cannot_take_the_layers_is_refused(name):
    with pytest.raises(ValueError, match="kd=norm merges its layers into the student's classifier"):
        NORM().bind(context(of_timm(name), side=224 if name.startswith("vit") else 64))


def test_another_method_that_replaces_the_student_is_refused_before_the_training():
    lesson, simkd = Lesson("norm"), Lesson("simkd").objective.terms["map"]
    assert not lesson.objective.extends
    both = Objective({"a": lesson.objective.terms["norm"], "b": simkd}, {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="a adds a map after the student's last one, and b would take it"):
        both.bind(context(network(0.25)))


def test_an_objective_without_such_a_term_deploys_what_it_trained():
    lesson = Lesson("simkd")
    assert lesson.objective.deploy(lesson.student) is lesson.student and lesson.objective.extends


@pytest.mark.parametrize(("own", "given"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (60.0, 60.0)])
def test_constant_and_far_maps_have_finite_gradients(own, given):
    student = (own * array("norm_s", torch.float32)).requires_grad_()
    loss = match_groups(student, given * array("f_t_a", torch.float32))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given = torch.randn(3, 4, 6, 3, 3).double(), torch.randn(4, 3, 6, 6).double()
    slope = torch.func.grad(lambda own: match_groups(own, given))
    torch.testing.assert_close(torch.func.vmap(slope)(students), torch.stack([slope(own) for own in students]))


def test_a_number_that_means_nothing_and_a_teacher_without_maps_are_refused():
    with pytest.raises(ValueError, match="kd.copies"):
        NORM(0)
    with pytest.raises(ValueError, match="the teacher shows none"):
        NORM().setup(Outputs(torch.zeros(2, 6), None, (torch.zeros(2, 4, 2, 2),)), Outputs(torch.zeros(2, 6)))


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=norm", "kd.copies=3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.terms["norm"].copies == 3 and objective.weights == {"hard": 0.5, "norm": 4}


def test_a_method_that_pairs_maps_is_refused_beside_it():
    """It would take the wide map for the student's last one."""
    at = Lesson("at").objective.terms["at"]
    both = Objective({"norm": NORM(), "at": at}, {"norm": 1.0, "at": 1.0})
    with pytest.raises(ValueError, match="norm adds a map after the student's last one, and at would take it"):
        both.bind(context(network(0.25)))
