"""CWD: published values, what a softmax over places ignores, and pairs of different channels and sizes."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.cwd import CWD, channel_divergence
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_contract import Lesson


def shown(*features, class_maps=None) -> Outputs:
    return Outputs(torch.zeros(len(features[0] if features else class_maps), 6), None, features, class_maps)


@entries("CWD")
@pytest.mark.parametrize("maps", ["features", "class_maps"])
def test_cwd_is_the_published_one(entry, dtype, maps):
    def loss(student, teacher):
        term = CWD(entry["settings"]["T"], maps)
        pair = [shown(x) if maps == "features" else shown(class_maps=x) for x in (student, teacher)]
        if maps == "features":
            term.setup(*pair)
        return term(*pair, None)

    agrees(entry, dtype, loss)


def test_shifts_of_a_channel_and_batches_do_not_matter_and_agreement_is_zero():
    student, teacher = array("f_s_a"), array("f_t_a")
    here = channel_divergence(student, teacher, 2.0).item()
    shift = torch.randn(8, 16, 1, 1, dtype=torch.float64)
    others = (student + shift, teacher - 2 * shift), (student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    for pair in others:
        assert channel_divergence(*pair, 2.0).item() == pytest.approx(here, rel=1e-10)
    assert channel_divergence(2 * student, 2 * teacher, 4.0).item() == pytest.approx(4 * here, rel=1e-10)
    assert channel_divergence(teacher + shift, teacher, 2.0).item() == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 1e4])
def test_float32_is_finite_far_apart_and_precise(temperature):
    student, teacher = array("f_s_a").float(), array("f_t_a").float()
    for own in (60 * student.sign(), 0 * student, teacher + 1e-3 * student):
        own = own.clone().requires_grad_()
        loss = channel_divergence(own, 60 * teacher.sign(), temperature)
        loss.backward()
        assert loss.isfinite() and loss >= 0 and own.grad.isfinite().all()
        exact = channel_divergence(own.detach().double(), 60 * teacher.sign().double(), temperature)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_channels_are_mapped_where_they_differ_and_sizes_are_pooled():
    term = CWD(stages=[-2, -1])
    own, given = (torch.randn(3, 4, 8, 8), torch.randn(3, 6, 4, 4)), (torch.randn(3, 4, 4, 4), torch.randn(3, 9, 4, 4))
    term.setup(shown(*own), shown(*given))
    assert isinstance(term.align[0], torch.nn.Identity) and term.align[1].weight.shape == (9, 6, 1, 1)
    pooled = torch.nn.functional.avg_pool2d(own[0], 2)
    expected = channel_divergence(pooled, given[0], 1.0) + channel_divergence(term.align[1](own[1]), given[1], 1.0)
    torch.testing.assert_close(term(shown(*own), shown(*given), None), expected)


def test_class_maps_are_compared_without_weights_and_their_teacher_is_checked():
    lesson = Lesson("cwd", "kd.maps=class_maps")
    assert lesson.objective.needs == {"class_maps"} and not list(lesson.objective.parameters())
    lesson.loss()[0].backward()
    assert any(p.grad.abs().sum() > 0 for p in lesson.student.parameters() if p.grad is not None)
    with pytest.raises(ValueError, match="kd=cwd reads the class maps of the teacher"):
        CWD(maps="class_maps").setup(lesson.shown(), Outputs(torch.zeros(2, 6)))
    with pytest.raises(ValueError, match="kd=cwd needs class maps whose mean"):
        Lesson("cwd", "kd.maps=class_maps", teacher="mobilenetv3_small_050", side=48)


def test_a_single_place_and_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="kd=cwd compares where .* single place: use shallower kd.stages"):
        CWD().setup(shown(torch.zeros(2, 3, 4, 4)), shown(torch.zeros(2, 3, 1, 1)))
    for settings in ({"temperature": 0}, {"maps": "logits"}):
        with pytest.raises(ValueError, match=f"kd.{next(iter(settings))} must be"):
            CWD(**settings)


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 4, 2, 6, 6).double(), torch.randn(4, 2, 6, 6).double()
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    stacked = torch.func.vmap(channel_divergence, in_dims=(0, None, 0))(students, teacher, temperatures)
    one_by_one = [channel_divergence(s, teacher, t.item()) for s, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=cwd", "kd.temperature=3", "kd.stages=[-2]", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    own, given = shown(array("f_s_a"), array("f_s_b")), shown(array("f_t_a"), array("f_t_b"))
    objective.setup(own, given)
    loss = objective(own, given, Batch(None, torch.zeros(8, dtype=torch.int64), None))[0]
    hard = torch.log(torch.tensor(6.0))
    expected = 0.5 * hard + 4 * channel_divergence(array("f_s_a"), array("f_t_a"), 3.0)
    torch.testing.assert_close(loss, expected, check_dtype=False)
