"""SRD: published values, what does not matter to it, and embeddings that are alike."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.srd import EPS, SRD, batch_normalized, soft_maximum
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def representation(student, teacher, power, eps=EPS):
    return soft_maximum(batch_normalized(student, eps), batch_normalized(teacher, eps), power)


@entries("SRD_representation")
def test_the_embeddings_term_is_the_published_one(entry, dtype):
    power, eps = (entry["settings"][name] for name in ("power", "bn_eps"))

    def loss(own, given, *layer):
        own = F.linear(own, *layer) if layer else own
        return representation(own, given, power, eps) if eps else soft_maximum(own, given, power)

    agrees(entry, dtype, loss)


@entries("SRD_total")
def test_the_sum_with_soft_labels_is_the_published_one(entry, dtype):
    given = entry["settings"]

    def loss(own, theirs, w, b, student, teacher):
        first = representation(F.linear(own, w, b), theirs, given["power"], given["bn_eps"])
        return given["representation_weight"] * first + soft_label_kl(student, teacher, given["T"])

    agrees(entry, dtype, loss)


def test_the_batch_norm_is_torchs():
    x = array("e_t")
    expected = F.batch_norm(x, None, None, training=True, eps=EPS)
    torch.testing.assert_close(batch_normalized(x), expected)


def test_shifts_and_signs_of_the_difference_change_nothing_and_a_batch_twice_adds_log_2():
    student, teacher = array("e_s_b"), array("e_t_b")
    here = representation(student, teacher, 4).item()
    assert representation(student + 3, teacher - 2, 4).item() == pytest.approx(here, rel=1e-9)
    assert representation(-student, -teacher, 4).item() == pytest.approx(here, rel=1e-12)
    twice = representation(student.repeat(2, 1), teacher.repeat(2, 1), 4).item()
    assert twice == pytest.approx(here + math.log(2), rel=1e-12)
    high = soft_maximum(student, teacher, 200).item() / 200  # the largest difference
    assert high == pytest.approx((student - teacher).abs().max().log().item(), abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("power", [1.0, 4.0, 6.0])
@pytest.mark.parametrize("case", ["equal", "alike", "zeros", "huge", "dead teacher"])
def test_value_and_gradient_are_finite(case, power, dtype):
    student, teacher = array("e_s_b", dtype).clone(), array("e_t_b", dtype).clone()
    if case == "equal":
        student = teacher.clone()
    elif case == "alike":
        student[:] = student[0]
        teacher[:] = teacher[0]
    elif case == "zeros":
        student[:] = 0
        teacher[:] = 0
    elif case == "huge":
        student *= 1e6
    elif case == "dead teacher":
        teacher[:, :3] = 0
    student.requires_grad_()
    loss = representation(student, teacher, power)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    if case == "equal":
        assert loss.item() == pytest.approx(math.log(1e-12)) and (student.grad == 0).all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    powers = torch.tensor([1.0, 2.5, 4.0], dtype=torch.float64)

    def loss(student, power):
        return representation(student, teacher, power)

    stacked = torch.func.vmap(torch.func.grad(loss))(students, powers)
    separate = [torch.func.grad(loss)(s, power.item()) for s, power in zip(students, powers, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(separate))


@pytest.mark.parametrize("power", [0.5, 0, -1, math.nan, math.inf])
def test_a_power_that_means_nothing_is_refused(power):
    with pytest.raises(ValueError, match="kd.power"):
        SRD(power)


def test_one_image_is_refused():
    one = Outputs(None, torch.ones(1, 4))
    term = SRD()
    term.setup(one, one)
    with pytest.raises(ValueError, match="kd=srd compares the images of a batch"):
        term(one, one, None)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=srd", "kd.power=3", "kd.temperature=2", "kd.hard=0.5", "kd.weight=4", "kd.soft=3").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    own, given = (Outputs(array(f"z_{x}_c6"), array(f"e_{x}")) for x in "st")
    own, given = (x._replace(logits=x.logits[:8]) for x in (own, given))
    objective.setup(own, given)
    embed, target = objective.terms["srd"].double().embed, torch.arange(8) % 6
    loss = objective(own, given, Batch(None, target, None))[0]
    first = 4 * representation(embed(own.embedding), given.embedding, 3.0)
    soft = 3 * soft_label_kl(own.logits, given.logits, 2.0)
    torch.testing.assert_close(loss, 0.5 * F.cross_entropy(own.logits, target) + first + soft)
