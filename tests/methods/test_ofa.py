"""OFA: published values, what its power does, and the heads of stages."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.methods.ofa import OFA, OFAStages, enhanced_soft_labels, label_factors, stage_head
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, lesson
from tests.methods.test_contract import Lesson


@entries("OFA")
def test_ofa_is_the_published_one(entry, dtype):
    term = OFA(entry["settings"]["T"], entry["settings"]["eps"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_without_a_power_it_is_the_cross_entropy_with_soft_labels():
    student, teacher, target = lesson()
    soft = -((teacher / 2).softmax(-1) * (student / 2).log_softmax(-1)).sum(-1).mean()
    for variant in ("code", "paper"):
        torch.testing.assert_close(enhanced_soft_labels(student, teacher, target, 2.0, 1.0, variant), soft)


def test_a_power_raises_the_label_and_the_variants_differ_beside_it():
    teacher, target = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log(), torch.tensor([0])
    expected = {"code": [1.5**2 - 1, 0.09, 0.04], "paper": [1.5**2 - 1, 0.3, 0.2]}
    for variant, factors in expected.items():
        found = label_factors(teacher, target, 1.0, 2.0, variant)
        assert found[0].tolist() == pytest.approx(factors, abs=1e-12)


def test_shifts_and_batches_do_not_matter_and_there_is_no_square_of_the_temperature():
    student, teacher, target = lesson()
    here = enhanced_soft_labels(student, teacher, target, 2.0, 1.5).item()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    twice = [torch.cat([x, x]) for x in (student, teacher, target)]
    others = [(student + shift, teacher - shift, target, 2.0), (*twice, 2.0), (2 * student, 2 * teacher, target, 4.0)]
    for given in others:
        assert enhanced_soft_labels(*given, 1.5).item() == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_in_float32(temperature):
    far, sure, target = array("z_s_ext").float(), array("z_t_ext").float(), array("y_ext")
    for student in (far, -far, torch.zeros_like(far), sure):
        student = student.clone().requires_grad_()
        loss = enhanced_soft_labels(student, sure, target, temperature, 1.5)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
        exact = enhanced_soft_labels(student.detach().double(), sure.double(), target, temperature, 1.5)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2, 4], [1, 1.5, 2]], dtype=torch.float64)

    def slope(student, *settings):
        return torch.func.grad(lambda z: called(OFA(*settings), z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


def test_a_head_halves_the_map_once_for_each_stage_above_it():
    head = stage_head(4, 20, 2, 6)
    assert head(torch.randn(3, 4, 8, 8)).shape == (3, 6)
    pointwise = [m for m in head if isinstance(m, torch.nn.Conv2d) and m.groups == 1]
    assert [m.out_channels for m in pointwise] == [4, 8, 8, 20]
    assert [m.stride[0] for m in head if isinstance(m, torch.nn.Conv2d) and m.groups > 1] == [2, 1, 2, 1]
    assert stage_head(4, 20, 0, 6)[0].weight.shape == (20, 4, 1, 1)


def test_stages_have_heads_that_learn_what_the_student_learns():
    lesson = Lesson("ofa_stages")
    term = lesson.objective.terms["stages"]
    shown = lesson.shown()
    assert term.places == [-3, -2, -1] and [head[-1].in_features for head in term.heads] == [64, 64, 64]
    alone = [
        term.compare(head(x), lesson.answer, lesson.batch) for head, x in zip(term.heads, shown.features, strict=True)
    ]
    torch.testing.assert_close(term(shown, lesson.answer, lesson.batch), sum(alone))
    some = OFAStages(stages=[-1, -3])
    some.setup(shown, lesson.answer)
    assert some.places == [-3, -1]
    with pytest.raises(ValueError, match="kd.stages"):
        OFAStages(stages=[-9]).setup(shown, lesson.answer)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"power": 0.5}, {"variant": "both"}])
@pytest.mark.parametrize("kind", [OFA, OFAStages])
def test_settings_that_mean_nothing_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"kd.{next(iter(settings))} must be"):
        kind(**settings)


def test_the_yamls_put_every_number_in_its_place():
    own = ["kd.temperature=3", "kd.power=2", "kd.variant=paper", "kd.hard=0.5", "kd.weight=4"]
    kd = compose("kd=ofa", *own).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    hard = torch.nn.functional.cross_entropy(student, target)
    expected = 0.5 * hard + 4 * enhanced_soft_labels(student, teacher, target, 3.0, 2.0, "paper")
    torch.testing.assert_close(called(objective, student, teacher, target)[0], expected)
    kd = compose("kd=ofa_stages", *own, "kd.stage_power=1", "kd.stages=[-1]", "kd.stage_weight=7").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["stages"]
    assert (term.temperature, term.power, term.variant, list(term.stages)) == (3, 1, "paper", [-1])
    assert objective.terms["ofa"].power == 2 and objective.weights == {"hard": 0.5, "ofa": 4, "stages": 7}
