"""SimKD: the deployed network, its frozen head, and its counted parameters."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from kd.evaluation.cost import macs, params
from kd.interfaces import extract_outputs
from kd.methods.simkd import Reused, call_as_used, map_distance, project, reuse
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from tests.methods.test_contract import Lesson, network


def test_the_classifier_is_the_teachers_and_stays_so():
    lesson = Lesson("simkd")
    before = copy.deepcopy(lesson.student.network.head.state_dict())
    optimizer = torch.optim.SGD(lesson.learned(), 0.1)
    lesson.student.train()
    for _ in range(3):
        optimizer.zero_grad()
        lesson.loss()[0].backward()
        optimizer.step()
    after = lesson.student.network.head.state_dict()
    assert before and all(torch.equal(before[name], after[name]) for name in before)
    projected = extract_outputs(lesson.student.eval(), lesson.batch.image).features[-1]
    expected = lesson.teacher.forward_head(projected)
    torch.testing.assert_close(lesson.student(lesson.batch.image), expected)


def test_a_student_that_shows_the_teachers_map_answers_as_the_teacher():
    lesson = Lesson("simkd")
    maps = lesson.answer.features[-1]
    torch.testing.assert_close(lesson.student.network.forward_head(maps), lesson.teacher(lesson.batch.image))
    assert map_distance(maps, maps) == 0


def test_body_projector_and_head_are_counted_and_nothing_else():
    lesson = Lesson("simkd")
    body = params(lesson.bare) - params(lesson.bare.network.classifier)
    projector = params(project(lesson.bare.network.classifier.in_features, 64, 2))
    assert params(lesson.student) == body + projector + params(lesson.teacher.network.classifier)
    assert macs(lesson.student, 16) > macs(lesson.bare, 16)
    assert set(lesson.student.network.head.state_dict()) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "mobilenetv3_small_050"])
def test_networks_of_timm_lend_their_heads(name):
    teacher = Normalized(timm.create_model(name, num_classes=6), (0.5,) * 3, (0.3,) * 3).eval()
    image = torch.rand(2, 3, 48, 48)
    read, features = teacher.forward_intermediates(image)
    if read.shape != features[-1].shape:  # a convolution between the last map and the head
        with pytest.raises(ValueError, match="reads something else"):
            reuse(network(0.25), teacher, 2, 48)
        return
    head = call_as_used(teacher.network, lambda whole: whole.forward_head(read))
    torch.testing.assert_close(head.forward_head(read), teacher(image))
    assert params(head) < 0.6 * params(teacher)  # MobileNetV3's head holds half of its weights
    student = reuse(network(0.25), teacher, 2, 48)
    assert student(image).shape == (2, 6)


def test_what_ran_is_kept_in_its_mode_and_the_original_is_untouched():
    whole = TinyCNN(6, 16).train()
    body = call_as_used(whole, lambda net: net.forward_intermediates(torch.rand(2, 3, 16, 16)))
    assert isinstance(body.classifier, torch.nn.Identity) and isinstance(whole.classifier, torch.nn.Linear)
    assert body.training and not any(module._forward_pre_hooks for module in whole.modules())
    assert not Reused(body, torch.nn.Identity(), body, (2, 2)).train().head.training


def test_an_ensemble_has_no_head_to_lend():
    with pytest.raises(ValueError, match="an ensemble has no head"):
        reuse(network(0.25), Ensemble([network(0.5)]), 2, 16)


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_transformer_is_refused_as_student(name):
    size = {"test_vit": 160}.get(name, 224)
    student = Normalized(timm.create_model(name, num_classes=6), (0.5,) * 3, (0.3,) * 3)
    teacher = Normalized(TinyCNN(6, size, width=0.25), (0.5,) * 3, (0.3,) * 3)
    with pytest.raises(ValueError, match="the head of this student reads something else, as those of transformers do"):
        reuse(student, teacher.eval(), 2, size)
