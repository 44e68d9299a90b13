"""NORM: published values, the deployed network and what it counts, and networks that it takes."""

from __future__ import annotations

import pytest
import timm
import torch
from hydra.utils import instantiate

from kd.evaluation.cost import params
from kd.interfaces import extract_outputs
from kd.methods.norm import NORM, group_distance, widen
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_contract import Lesson, network


@entries("NORM")
def test_norm_is_the_published_one(entry, dtype):
    agrees(entry, dtype, group_distance)


def test_the_groups_are_compared_one_by_one_and_agreement_is_zero():
    own, given = array("norm_s"), array("f_t_a")
    pooled = torch.nn.functional.max_pool2d(given, 2)
    expected = sum((group - pooled).square().mean() for group in own.chunk(2, 1))
    torch.testing.assert_close(group_distance(own, given), expected)
    assert group_distance(pooled.repeat(1, 3, 1, 1), given).item() == 0
    doubled = [x.repeat(2, 1, 1, 1) for x in (own, given)]
    assert group_distance(*doubled).item() == pytest.approx(expected.item(), rel=1e-12)
    wide = torch.nn.functional.interpolate(own, scale_factor=4)  # a larger student is pooled, too
    torch.testing.assert_close(group_distance(wide[:, :16], given), group_distance(wide[:, :16, ::2, ::2], given))


def test_the_students_head_reads_the_sum_and_the_term_the_wide_map():
    lesson = Lesson("norm")
    net = lesson.student.network.eval()
    shown = extract_outputs(lesson.student.eval(), lesson.batch.image)
    last, features = net.body.forward_intermediates(lesson.student.prepare(lesson.batch.image))
    wide = net.wide(last)
    torch.testing.assert_close(shown.logits, net.body.forward_head(last + net.narrow(wide)))
    torch.testing.assert_close(lesson.student(lesson.batch.image), shown.logits)
    torch.testing.assert_close(shown.features[-1], wide)
    assert len(shown.features) == len(features) and wide.shape[1] == 8 * lesson.answer.features[-1].shape[1]
    expected = group_distance(wide, lesson.answer.features[-1])
    torch.testing.assert_close(lesson.objective.terms["norm"](shown, lesson.answer, lesson.batch), expected)


def test_the_layers_are_counted_and_the_student_is_copied():
    lesson = Lesson("norm", "kd.copies=2")
    inside, outside = (
        maps.features[-1].shape[1] for maps in (extract_outputs(lesson.bare, lesson.batch.image), lesson.answer)
    )
    wide = 2 * outside
    assert params(lesson.student) == params(lesson.bare) + 2 * inside * wide + 2 * (wide + inside)
    assert not {id(p) for p in lesson.student.parameters()} & {id(p) for p in lesson.bare.parameters()}


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_networks_of_timm_are_widened(name):
    student = Normalized(timm.create_model(name, num_classes=6), (0.5,) * 3, (0.3,) * 3)
    image = torch.rand(2, 3, 48, 48)
    shown = extract_outputs(widen(student, network(0.5).eval(), 2, 48), image)
    assert shown.logits.shape == (2, 6) and shown.features[-1].shape[1] == 2 * 64


def test_teachers_without_maps_and_students_without_a_map_are_refused():
    with pytest.raises(ValueError, match="kd=norm compares with the teacher's last map"):
        widen(network(0.25), Ensemble([network(0.5)]).eval(), 2, 16)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=6, img_size=16, patch_size=4, depth=1)
    with pytest.raises(ValueError, match="kd=norm widens the student's last map"):
        widen(Normalized(vit, (0.5,) * 3, (0.3,) * 3), network(0.5).eval(), 2, 16)
    with pytest.raises(ValueError, match="kd.copies"):
        NORM(0)


def test_far_and_empty_maps_stay_finite_in_float32():
    for own, given in ((60.0, 60.0), (0.0, 1.0), (0.0, 0.0)):
        student = (own * array("norm_s", torch.float32)).requires_grad_()
        loss = group_distance(student, given * array("f_t_a", torch.float32))
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given = torch.randn(3, 2, 6, 2, 2), torch.randn(2, 3, 4, 4)
    stacked = torch.func.vmap(group_distance, in_dims=(0, None))(students, given)
    torch.testing.assert_close(stacked, torch.stack([group_distance(s, given) for s in students]))


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=norm", "kd.copies=2", "kd.warmup=0.3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    assert objective.terms["norm"].copies == 2 and objective.weights == {"hard": 0.5, "norm": 4}
    assert objective.schedule["norm"]["rise"] == 0.3
