"""LSKD: published values with two terms inside, invariances of a z-score, and what the wrapper passes on."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import DKD, decoupled_kl
from kd.methods.hinton import Hinton, soft_label_kl
from kd.methods.lskd import Standardized, standardize
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson


def called(term, student, teacher, target=None):
    return term(Outputs(student), Outputs(teacher), Batch(None, target, None))


@entries("LSKD")
def test_lskd_is_the_published_one(entry, dtype):
    term = Standardized(Hinton(entry["settings"]["T"]))
    two = entry["inputs"][0].endswith("c2")  # the gradient is an effect of eps: in float32 it vanishes
    agrees(entry, dtype, lambda *given: called(term, *given), gradient=not two)


@entries("LSKD_total")
def test_the_sum_with_labels_on_raw_logits_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    objective = Objective(
        {"hard": CrossEntropy(), "lskd": Standardized(Hinton(settings["T"]))},
        {"hard": settings["ce_weight"], "lskd": settings["kd_weight"]},
    )
    agrees(entry, dtype, lambda *given: called(objective, *given)[0])


@entries("DKD_LSKD")
def test_dkd_inside_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    term = Standardized(DKD(settings["T"], settings["alpha"], settings["beta"]))
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_a_z_score_has_mean_zero_and_the_unbiased_deviation_one():
    z = standardize(lesson()[0])
    assert z.mean(-1).abs().max() < 1e-12
    assert (z**2).sum(-1).tolist() == pytest.approx([5] * 8, abs=1e-5)
    assert standardize(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [pytest.approx([-1, 0, 1], abs=1e-6)]


def test_positive_affine_maps_of_a_row_do_not_matter_and_negative_ones_do():
    student, teacher, _ = lesson()
    scale, shift = torch.rand(2, len(student), 1, dtype=torch.float64) + 0.5
    term = Standardized(Hinton(2.0))
    here = called(term, student, teacher).item()
    assert called(term, scale * student + shift, teacher).item() == pytest.approx(here, abs=1e-6)
    assert called(term, student, scale * teacher - shift).item() == pytest.approx(here, abs=1e-6)
    assert called(term, scale * teacher + shift, teacher).item() == pytest.approx(0, abs=1e-6)
    assert abs(called(term, -student, teacher).item() - here) > 1e-2


def test_twice_the_same_batch_is_the_same_loss():
    student, teacher, _ = lesson()
    term = Standardized(Hinton(2.0))
    twice = called(term, torch.cat([student, student]), torch.cat([teacher, teacher]))
    assert twice.item() == pytest.approx(called(term, student, teacher).item(), rel=1e-12)


def test_of_two_classes_only_eps_gives_a_gradient_and_the_term_says_so():
    student, teacher = array("z_s_c2"), array("z_t_c2")
    student.requires_grad_()
    (slope,) = torch.autograd.grad(called(Standardized(Hinton(2.0)), student, teacher), student)
    (plain,) = torch.autograd.grad(soft_label_kl(student, teacher, 2.0), student)
    with torch.no_grad():
        p, q = ((standardize(z) / 2).softmax(-1)[:, 0] for z in (student, teacher))
        apart = (student[:, 0] - student[:, 1]).abs()
        each = 2 * 2 / len(p) * (p - q).abs() * 1e-7 / (apart**2 * (1 + 2**0.5 * 1e-7 / apart) ** 2)
    assert slope[:, 0].abs().tolist() == pytest.approx(each.tolist(), abs=1e-10)
    assert slope.norm() / plain.norm() < 1e-4
    with pytest.warns(UserWarning, match="two classes"):
        Standardized(Hinton()).setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("inside", [Hinton(1.0), DKD(1.0)], ids=["hinton", "dkd"])
def test_constant_rows_and_far_logits_are_finite_in_value_and_gradient(inside, dtype):
    far, sure = (array(name, dtype) for name in ("z_s_ext", "z_t_ext"))
    flat, even = far.clone(), sure.clone()
    flat[0], even[1] = 3.0, 0.0
    for student, teacher in ((far, sure), (flat, even), (0 * far, 0 * far), (far, far)):
        student = student.clone().requires_grad_()
        loss = called(Standardized(inside), student, teacher, array("y_ext"))
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


class Witness(torch.nn.Module):
    needs = frozenset({"logits", "embedding"})

    def bind(self, context):
        return context

    def setup(self, student, teacher):
        self.shown = student, teacher

    def forward(self, student, teacher, batch):
        self.shown, self.batch = (student, teacher), batch
        return student.logits.sum()


def test_the_term_inside_sees_z_scores_and_all_else_as_it_is():
    student, teacher, target = lesson()
    pair = Outputs(student, embedding=student[:, :2]), Outputs(teacher, features=(teacher,))
    batch, witness = Batch(None, target, None), Witness()
    term = Standardized(witness)
    assert term.needs == witness.needs
    assert term.bind("context") == "context" and Standardized(Hinton()).bind("context") is None
    for call in (lambda: term.setup(*pair), lambda: term(*pair, batch)):
        call()
        for seen, given in zip(witness.shown, pair, strict=True):
            torch.testing.assert_close(seen.logits, standardize(given.logits))
            assert seen.embedding is given.embedding and seen.features is given.features
    assert witness.batch is batch


def test_a_term_that_compares_no_logits_is_refused_inside():
    with pytest.raises(ValueError, match="CrossEntropy does not compare them"):
        Standardized(CrossEntropy())


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)

    def slope(student, temperature):
        term = Standardized(DKD(temperature))
        return torch.func.grad(lambda z: called(term, z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, temperatures)
    one_by_one = [slope(student, t.item()) for student, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("method", ["lskd", "lskd_dkd"])
def test_the_yaml_puts_every_number_in_its_place(method):
    own = ["kd.target=2", "kd.nontarget=5", "kd.warmup=0.1"] if method == "lskd_dkd" else []
    kd = compose(f"kd={method}", "kd.temperature=3", "kd.hard=0.5", "kd.weight=4", *own).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.get("schedule"))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.05))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    z = standardize(student), standardize(teacher)
    if method == "lskd":
        expected = 4 * soft_label_kl(*z, 3.0)
    else:
        tckd, nckd = decoupled_kl(*z, target, 3.0)
        expected = 4 * 0.5 * (2 * tckd + 5 * nckd)
    torch.testing.assert_close(loss, 0.5 * hard + expected)
