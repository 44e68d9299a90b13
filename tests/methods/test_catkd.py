"""CAT-KD: class maps agree with a slow reference and with the logits; heads that are refused or cause a warning."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import timm
import torch
from torch import nn

from kd.interfaces import Context, Outputs, extract_outputs
from kd.methods.catkd import CATKD, class_attention_loss
from kd.models.tiny_cnn import TinyCNN

SHOW = {"class_maps"}


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def slow_pool(x: np.ndarray, size: int) -> np.ndarray:
    height, width = x.shape
    return np.array(
        [
            [
                x[
                    i * height // size : math.ceil((i + 1) * height / size),
                    j * width // size : math.ceil((j + 1) * width / size),
                ].mean()
                for j in range(size)
            ]
            for i in range(size)
        ]
    )


def slow(student: np.ndarray, teacher: np.ndarray, size: int, normalize: bool) -> float:
    squares = []
    for b in range(student.shape[0]):
        for k in range(student.shape[1]):
            own, given = slow_pool(student[b, k], size), slow_pool(teacher[b, k], size)
            if normalize:
                own, given = own / np.sqrt((own**2).sum()), given / np.sqrt((given**2).sum())
            squares.append((own - given) ** 2)
    return float(np.mean(squares))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_agrees_with_loops_also_where_the_sizes_differ(size, normalize):
    student, teacher = draw(3, 4, 6, 6), draw(3, 4, 5, 7)
    value = class_attention_loss(student, teacher, size, normalize)
    assert value.item() == pytest.approx(slow(student.numpy(), teacher.numpy(), size, normalize), rel=1e-12)


def test_a_small_map_repeats_its_places():
    student, teacher = draw(2, 3, 1, 1), draw(2, 3, 2, 2)
    expected = ((student - teacher) ** 2).mean()
    torch.testing.assert_close(class_attention_loss(student, teacher, 2), expected)


def test_pooled_to_one_place_class_maps_are_logits():
    """With a global average pool and a linear layer, the mean of class maps over places is the logits."""
    torch.manual_seed(0)
    student, teacher = TinyCNN(6, 32, width=0.25).eval(), TinyCNN(6, 32, width=0.5).eval()
    image = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        own, given = extract_outputs(student, image, SHOW), extract_outputs(teacher, image, SHOW)
    term = CATKD(size=1)
    term.setup(own, given)
    torch.testing.assert_close(term(own, given, None), (own.logits - given.logits).square().mean())


def test_normalized_maps_have_no_size_and_the_batch_size_does_not_matter():
    student, teacher = draw(3, 4, 4, 4), draw(3, 4, 4, 4)
    scale = torch.rand(3, 4, 1, 1, dtype=torch.float64) + 0.1
    value = class_attention_loss(student, teacher, 2, True)
    torch.testing.assert_close(class_attention_loss(student * scale, teacher * scale.flip(0), 2, True), value)
    assert class_attention_loss(teacher * scale, teacher, 2, True).item() == pytest.approx(0, abs=1e-30)
    assert class_attention_loss(teacher * scale, teacher, 2, False) > 1e-3
    for normalize in (False, True):
        once = class_attention_loss(student, teacher, 2, normalize)
        twice = class_attention_loss(torch.cat([student] * 2), torch.cat([teacher] * 2), 2, normalize)
        torch.testing.assert_close(twice, once)


def test_a_hand_made_case():
    """Pooled maps (1, 0; 0, 0) and 0: one square in four places; with length 1 against (1, 1; 1, 1) / 2: 1/4 each."""
    student = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    student[..., :2, :2] = 1.0
    assert class_attention_loss(student, torch.zeros_like(student)).item() == 0.25
    assert class_attention_loss(student, torch.full_like(student, 7), normalize=True).item() == pytest.approx(0.25)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_maps_leave_value_and_gradient_finite(scale, normalize):
    student = (scale * torch.randn(2, 3, 4, 4)).requires_grad_()
    loss = class_attention_loss(student, torch.randn(2, 3, 4, 4), 2, normalize)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("normalize", [False, True])
def test_a_stack_of_students_runs_under_vmap(normalize):
    students, teacher = draw(3, 2, 4, 6, 6), draw(2, 4, 6, 6)
    stacked = torch.func.vmap(lambda s: class_attention_loss(s, teacher, 2, normalize))(students)
    expected = [class_attention_loss(s, teacher, 2, normalize) for s in students]
    torch.testing.assert_close(stacked, torch.stack(expected))


class NormedHead(TinyCNN):
    """A layer norm after the pool, as in ConvNeXt."""

    def forward_head(self, last, pre_logits=False):
        pooled = nn.functional.layer_norm(last.mean((2, 3)), last.shape[1:2])
        return pooled if pre_logits else self.classifier(pooled)


def seen(network: nn.Module) -> Outputs:
    with torch.no_grad():
        return extract_outputs(network, torch.rand(2, 3, 32, 32), SHOW)


def test_a_teacher_whose_class_maps_do_not_make_its_logits_is_refused():
    torch.manual_seed(0)
    plain, normed = seen(TinyCNN(6, 32, width=0.25)), seen(NormedHead(6, 32, width=0.25).eval())
    with pytest.warns(UserWarning, match="the student's class maps over places is not its logits"):
        CATKD().setup(normed, plain)


def around(teacher: nn.Module) -> Context:
    return Context(TinyCNN(6, 32, width=0.25), teacher.eval(), None, None, None, None, 32)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "vgg11"])
def test_a_head_of_more_than_pool_and_linear_is_refused_before_the_training(name):
    teacher = timm.create_model(name, num_classes=6)
    with pytest.raises(ValueError, match="has none: its head is more than a global average pool"):
        CATKD().bind(around(teacher))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "densenet121"])
def test_heads_of_pool_and_linear_are_taken(name):
    assert CATKD().bind(around(timm.create_model(name, num_classes=6))) is None


def test_a_single_place_causes_a_warning():
    small = Outputs(torch.zeros(2, 3), class_maps=torch.zeros(2, 3, 1, 1))
    with pytest.warns(UserWarning, match="a single place, so its class maps hold no more than its logits"):
        CATKD().setup(small, small)


def test_a_student_with_dropout_is_warned_of_and_rounding_is_not():
    torch.manual_seed(0)
    teacher = seen(TinyCNN(6, 32).eval())
    with pytest.warns(UserWarning, match="With dropout before its classifier"):
        CATKD().setup(seen(TinyCNN(6, 32, dropout=0.5).train()), teacher)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        rounded = seen(TinyCNN(6, 32).eval())
        assert rounded.logits.dtype == torch.bfloat16
        CATKD().setup(rounded.to_float32(SHOW), rounded.to_float32(SHOW))


def test_wrong_settings_and_teachers_are_refused():
    with pytest.raises(ValueError, match="kd.size"):
        CATKD(size=0)
    student = seen(TinyCNN(6, 32))
    for teacher in (None, Outputs(torch.zeros(2, 6))):
        with pytest.raises(ValueError, match="class maps of the teacher"):
            CATKD().setup(student, teacher)
    with pytest.raises(ValueError, match="class maps of the student"):
        CATKD().setup(Outputs(torch.zeros(2, 6)), student)
