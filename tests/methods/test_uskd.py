"""USKD: published values of its code, the ranks of the paper, and a student's map without a teacher."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.supervised import cross_entropy
from kd.methods.uskd import USKD, nontarget_soft_labels, target_soft_label, zipf_labels
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson
from tests.methods.test_contract import Lesson


def parts(logits, weak, target, variant="paper") -> tuple[torch.Tensor, torch.Tensor]:
    labels = zipf_labels(logits, weak, target, variant)
    return target_soft_label(logits, target), nontarget_soft_labels(logits, labels, target)


@entries("USKD_as_coded")
def test_uskd_is_the_published_one(entry, dtype):
    at = entry["settings"]

    def loss(logits, feature, target, weight, bias):
        weak = F.linear(feature, weight, bias)
        own, rest = parts(logits, weak, target, "code")
        return at["alpha"] * own + at["beta"] * rest + at["mu"] * cross_entropy(weak, target, 0.1)

    agrees(entry, dtype, loss)


def test_through_the_module_the_weak_classifier_reads_a_pooled_map():
    student, _, target = lesson()
    maps = tuple(torch.randn(8, channels, 4, 4).double() for channels in (3, 5, 7))
    term = USKD(2.0, 3.0, 4.0, -2)
    term.setup(Outputs(student, None, maps), None)
    term.double()
    assert term.classifier.weight.shape == (6, 5)
    weak = term.classifier(maps[1].mean((2, 3)))
    own, rest = parts(student, weak, target)
    expected = 2 * own + 3 * rest + 4 * cross_entropy(weak, target, 0.1)
    torch.testing.assert_close(term(Outputs(student, None, maps), None, Batch(None, target, None)), expected)


def test_soft_labels_follow_the_ranks_by_zipfs_law():
    logits = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3]]).double()
    target = torch.tensor([0, 1])
    labels = zipf_labels(logits, logits, target)  # ranks 1 2 3 4 and 4 3 2 1
    expected = torch.tensor([[1 / 2, 1 / 3, 1 / 4], [1 / 4, 1 / 2, 1]]).double()
    torch.testing.assert_close(labels, expected / expected.sum(-1, keepdim=True))
    # the weak classifier is sure of the last class, so it leads by probabilities
    weak = torch.tensor([[0.0, 0, 0, 9]]).double()
    assert zipf_labels(logits[:1], weak, target[:1]).argmax(-1) == 2
    log_first = torch.tensor([[1.0, 0.9, 0, -40]]).double()  # a log-probability of -40 outweighs it
    assert [zipf_labels(log_first, weak, target[:1], name).argmax(-1).item() for name in ("paper", "code")] == [2, 0]


def test_the_targets_soft_label_is_a_constant_of_mean_one():
    student, _, target = lesson()
    student.requires_grad_()
    p = student.softmax(-1).gather(-1, target[:, None]).detach().squeeze(-1)
    soft = 1 + p.square() - p.square().mean()
    assert soft.mean().item() == pytest.approx(1)
    (slope,) = torch.autograd.grad(target_soft_label(student, target), student)
    expected = soft[:, None] * (student.softmax(-1) - F.one_hot(target, 6)) / len(target)
    torch.testing.assert_close(slope, expected.detach())


def test_shifts_and_batches_do_not_matter():
    student, weak, target = lesson()
    here = torch.stack(parts(student, weak, target))
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    torch.testing.assert_close(torch.stack(parts(student + shift, weak - shift, target)), here)
    torch.testing.assert_close(torch.stack(parts(*(torch.cat([x, x]) for x in (student, weak, target)))), here)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_far_logits_stay_finite_in_float32(variant):
    far, target = array("z_s_ext", torch.float32), array("y_ext")
    for logits, weak in ((far, far), (-far, far), (0 * far, 0 * far)):
        student = logits.clone().requires_grad_()
        own, rest = parts(student, weak, target, variant)
        (own + rest).backward()
        assert own.isfinite() and rest.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    _, weak, target = lesson()
    students = torch.randn(3, *weak.shape, dtype=torch.float64)
    slope = torch.func.grad(lambda z: sum(parts(z, weak, target)))
    torch.testing.assert_close(torch.func.vmap(slope)(students), torch.stack([slope(z) for z in students]))


def test_the_student_shows_its_maps_and_no_teacher_is_read():
    taught = Lesson("uskd")
    assert not taught.objective.needs and taught.objective.student_needs == {"features"}
    loss, _ = taught.objective(taught.shown(), None, taught.batch)
    loss.backward()
    assert taught.objective.terms["uskd"].classifier.weight.grad.abs().sum() > 0
    both = Objective(
        {"a": taught.objective.terms["uskd"], "b": Lesson("srrl").objective.terms["srrl"]}, {"a": 1, "b": 1}
    )
    assert both.needs == {"features", "embedding"} == both.student_needs


def test_settings_that_mean_nothing_are_refused():
    for name, value in (("target", -1), ("nontarget", -1), ("weak", -1), ("stage", 0), ("variant", "book")):
        with pytest.raises(ValueError, match=f"kd.{name}"):
            USKD(**{name: value})
    with pytest.raises(ValueError, match="kd.stage=-2: this student shows 1 maps"):
        USKD().setup(Outputs(torch.zeros(2, 3), None, (torch.zeros(2, 4, 2, 2),)), None)
    with pytest.warns(UserWarning, match="USKD with two classes"):
        USKD(stage=-1).setup(Outputs(torch.zeros(2, 2), None, (torch.zeros(2, 4, 2, 2),)), None)


def test_the_yaml_puts_every_number_in_its_place():
    given = {"target": 2.0, "nontarget": 3.0, "weak": 4.0, "stage": -1, "variant": "code", "hard": 0.5, "weight": 5.0}
    kd = compose("kd=uskd", *(f"kd.{name}={value}" for name, value in given.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["uskd"]
    assert [term.target, term.nontarget, term.weak, term.stage, term.variant] == [2, 3, 4, -1, "code"]
    assert objective.weights == {"hard": 0.5, "uskd": 5}
