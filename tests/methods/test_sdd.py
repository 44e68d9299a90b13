"""SDD: published values with three losses inside, its regions, and what counts twice."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods.dkd import decoupled_kl
from kd.methods.hinton import soft_label_kl
from kd.methods.sdd import (
    ScaleDecoupledDKD,
    ScaleDecoupledKD,
    ScaleDecoupledNKD,
    cross_entropies_each,
    region_logits,
    region_weights,
)
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, entries

TERMS = (ScaleDecoupledKD, ScaleDecoupledDKD, ScaleDecoupledNKD)


def lesson(side: int = 8, classes: int = 6, count: int = 6):
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, count, classes, side, side, dtype=torch.float64)
    return student, teacher, torch.arange(count) % classes


def called(term, student, teacher, target):
    shown = [Outputs(maps.mean((2, 3)), class_maps=maps) for maps in (student, teacher)]
    return term(*shown, Batch(None, target, None))


@entries("SDD_KD", "SDD_DKD", "SDD_NKD_as_coded")
def test_sdd_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    scales = json.loads(settings["M"])
    if "beta" in settings:
        term = ScaleDecoupledDKD(settings["T"], settings["alpha"], settings["beta"], scales)
    elif "gamma" in settings:
        term = ScaleDecoupledNKD(settings["T"], settings["gamma"], scales)
    else:
        term = ScaleDecoupledKD(settings["T"], scales)
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_regions_are_means_of_the_map_and_the_first_is_the_whole():
    maps = lesson()[0]
    regions = region_logits(maps, (1, 2, 4))
    assert regions.shape == (6, 21, 6)
    torch.testing.assert_close(regions[:, 0], maps.mean((2, 3)))
    torch.testing.assert_close(regions[:, 2], maps[..., :4, 4:].mean((2, 3)))
    torch.testing.assert_close(regions[:, 5 + 4], maps[..., 2:4, :2].mean((2, 3)))
    torch.testing.assert_close(region_logits(maps[..., :1, :1], (1, 2)), maps[..., 0, 0][:, None].expand(6, 5, 6))


def test_regions_that_disagree_with_the_whole_count_twice():
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 1], logits[0, 1, 2] = 1, 2  # right, wrong, right
    logits[1, :, 0], logits[1, 2, 3] = 1, 2  # wrong, wrong, right
    assert region_weights(logits, torch.tensor([1, 3])).tolist() == [[1, 2, 1], [1, 1, 2]]


def test_with_the_whole_alone_it_is_the_loss_inside():
    student, teacher, target = lesson()
    own, given = student.mean((2, 3)), teacher.mean((2, 3))
    tckd, nckd = decoupled_kl(own, given, target, 2.0)
    expected = (
        soft_label_kl(own, given, 2.0),
        3 * tckd + 5 * nckd,
        cross_entropies_each(own, given, target, 2.0, 1.5).mean(),
    )
    terms = ScaleDecoupledKD(2.0, [1]), ScaleDecoupledDKD(2.0, 3.0, 5.0, [1]), ScaleDecoupledNKD(2.0, 1.5, [1])
    for term, value in zip(terms, expected, strict=True):
        torch.testing.assert_close(called(term, student, teacher, target), value)


@pytest.mark.parametrize("kind", TERMS)
def test_shifts_and_batches_do_not_matter_and_sizes_may_differ(kind):
    student, teacher, target = lesson(7)
    term = kind(scales=[1, 2, 4])
    here = called(term, student, teacher, target).item()
    shift = torch.linspace(-20, 20, 6, dtype=torch.float64).view(-1, 1, 1, 1)
    twice = [torch.cat([x, x]) for x in (student, teacher, target)]
    assert called(term, student + shift, teacher - shift, target).item() == pytest.approx(here, rel=1e-10)
    assert called(term, *twice).item() == pytest.approx(here, rel=1e-12)
    assert called(term, student[..., :3, :3], teacher, target).isfinite()
    if kind is not ScaleDecoupledNKD:
        assert called(term, teacher, teacher, target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", TERMS)
def test_far_maps_stay_finite_in_float32(kind):
    student, teacher, target = lesson(4)
    far = 60 * student.sign().float().requires_grad_()
    far.retain_grad()
    loss = called(kind(1.0), far, 60 * teacher.sign().float(), target)
    loss.backward()
    assert loss.isfinite() and far.grad.isfinite().all()
    exact = called(kind(1.0), far.detach().double(), 60 * teacher.sign(), target)
    assert loss.item() == pytest.approx(exact.item(), rel=2e-5)


@pytest.mark.parametrize("kind", TERMS)
def test_a_stack_of_students_learns_as_separate_students_do(kind):
    _, teacher, target = lesson(5)
    students = torch.randn(2, *teacher.shape, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def slope(student, temperature):
        return torch.func.grad(lambda maps: called(kind(temperature), maps, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, temperatures)
    one_by_one = [slope(student, t.item()) for student, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(kind, settings) for kind in TERMS for settings in ({"temperature": 0}, {"scales": [2]}, {"scales": 2})]
    + [(ScaleDecoupledDKD, {"target": -1}), (ScaleDecoupledNKD, {"nontarget": -1})],
)
def test_settings_that_mean_nothing_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"kd.{next(iter(settings))} must"):
        kind(**settings)


def test_other_heads_and_two_classes_are_told():
    teacher = timm.create_model("mobilenetv3_small_050", num_classes=6).eval()
    with pytest.raises(ValueError, match="kd=sdd needs class maps whose mean"):
        ScaleDecoupledKD().bind(Context(None, teacher, None, None, None, None, 32))
    with pytest.raises(ValueError, match="both 0"):
        ScaleDecoupledDKD(target=0, nontarget=0)
    two = Outputs(torch.zeros(2, 2), class_maps=torch.zeros(2, 2, 4, 4))
    with pytest.warns(UserWarning, match="DKD with two classes"):
        ScaleDecoupledDKD().setup(two, two)


@pytest.mark.parametrize("method", ["sdd", "sdd_dkd", "sdd_nkd"])
def test_the_yaml_puts_every_number_in_its_place(method):
    own = {
        "sdd": {"alpha": 0.8},
        "sdd_dkd": {"target": 2, "nontarget": 5, "hard": 0.2, "weight": 0.8, "warmup": 0.0},
        "sdd_nkd": {"nontarget": 0.7, "hard": 0.2, "weight": 0.8},
    }[method]
    kd = compose(f"kd={method}", "kd.temperature=3", "kd.scales=[1,4]", *(f"kd.{k}={v}" for k, v in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.get("schedule"))
    student, teacher, target = lesson()
    loss = called(objective, student, teacher, target)[0]
    term = {
        "sdd": ScaleDecoupledKD(3.0, [1, 4]),
        "sdd_dkd": ScaleDecoupledDKD(3.0, 2, 5, [1, 4]),
        "sdd_nkd": ScaleDecoupledNKD(3.0, 0.7, [1, 4]),
    }[method]
    hard = torch.nn.functional.cross_entropy(student.mean((2, 3)), target)
    torch.testing.assert_close(loss, 0.2 * hard + 0.8 * called(term, student, teacher, target))
