"""MGD: agreement with a slow reference, the units of a mask, their frequency, and what a mask depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.interfaces import Batch, Outputs
from kd.methods.mgd import MGD, masked_generation_loss, random_keep


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def showing(*maps: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(maps[0]), 6), None, maps)


def term_for(student: Outputs, teacher: Outputs, **settings) -> MGD:
    term = MGD(**settings)
    term.setup(student, teacher)
    return term.double()


def slow_convolution(x: np.ndarray, layer: torch.nn.Conv2d) -> np.ndarray:
    kernel, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    size = kernel.shape[-1]
    count, _, height, width = x.shape
    around = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    out = np.empty((count, kernel.shape[0], height, width))
    for b, o, i, j in np.ndindex(out.shape):
        out[b, o, i, j] = (around[b, :, i : i + size, j : j + size] * kernel[o]).sum() + bias[o]
    return out


def batch_of(count: int) -> Batch:
    return Batch(None, None, torch.arange(10, 10 + count), epoch=3)


def numbers(seed: int, epoch: int, index: int, count: int) -> list[float]:
    """splitmix64's finaliser over a counter, in Python's integers: the top 24 bits as numbers in [0, 1)."""

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    golden = 0x9E3779B97F4A7C15
    key = mix(mix((seed * golden + 1) % 2**64) ^ (epoch * golden + 2) % 2**64)
    image = mix(key ^ (index * golden + 3) % 2**64)
    return [(mix((image + k * golden) % 2**64) >> 40) / 2**24 for k in range(1, count + 1)]


@pytest.mark.parametrize("masked", ["places", "channels"])
@pytest.mark.parametrize("channels", [3, 4], ids=["aligned", "as it is"])
def test_the_term_agrees_with_a_slow_reference(masked, channels):
    student, teacher = showing(draw(2, channels, 3, 4)), showing(draw(2, 4, 3, 4))
    term = term_for(student, teacher, mask=0.4, masked=masked)
    value = term(student, teacher, batch_of(2))
    shape = (2, 1, 3, 4) if masked == "places" else (2, 4, 1, 1)
    drawn = np.array([numbers(int(term.seed), 3, 10 + b, int(np.prod(shape[1:]))) for b in range(2)]).reshape(shape)
    own = student.features[0].numpy()
    if channels != 4:
        own = slow_convolution(own, term.align)
    own = np.where(np.broadcast_to(drawn, own.shape) < 0.4, 0.0, own)
    made = slow_convolution(np.maximum(slow_convolution(own, term.generate[0]), 0), term.generate[2])
    expected = ((made - teacher.features[0].numpy()) ** 2).sum() / 2
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_the_loss_is_a_sum_over_the_map_and_a_mean_over_the_batch():
    """By hand: the identity as generator, 2 images, differences 3 and 1, one hidden place."""
    student = torch.tensor([[[[5.0, 2.0]]], [[[1.0, 1.0]]]], dtype=torch.float64)
    teacher = torch.tensor([[[[2.0, 1.0]]], [[[1.0, 1.0]]]], dtype=torch.float64)
    keep = torch.tensor([[[[1.0, 1.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)
    assert masked_generation_loss(student, teacher, keep, torch.nn.Identity()).item() == (9 + 1 + 1) / 2


def test_hidden_places_have_no_gradient_and_the_rest_has():
    student, teacher = draw(3, 4, 5, 5).requires_grad_(), draw(3, 4, 5, 5)
    keep = random_keep(student, 0.5, "places", 1, 1, torch.arange(3))
    generate = torch.nn.Conv2d(4, 4, 3, padding=1).double()
    masked_generation_loss(student, teacher, keep, generate).backward()
    silent = student.grad.abs().sum(1, keepdim=True) == 0
    assert torch.equal(silent, keep == 0) and silent.any() and not silent.all()


@pytest.mark.parametrize(("masked", "shape"), [("places", (64, 1, 10, 10)), ("channels", (64, 32, 1, 1))])
def test_the_mask_hides_its_share_of_each_image_anew(masked, shape):
    x = torch.zeros(64, 32, 10, 10)
    keep = random_keep(x, 0.15, masked, 1, 1, torch.arange(64))
    assert keep.shape == shape and set(keep.unique().tolist()) == {0.0, 1.0}
    spread = (0.15 * 0.85 / keep.numel()) ** 0.5
    assert (1 - keep.mean()).item() == pytest.approx(0.15, abs=5 * spread)
    assert not torch.equal(keep[0], keep[1])
    assert random_keep(x, 0.0, masked, 1, 1, torch.arange(64)).all()


def test_a_mask_depends_on_seed_epoch_and_index_alone():
    x, index = torch.zeros(4, 3, 4, 4), torch.tensor([7, 8, 9, 1])
    keep = random_keep(x, 0.5, "places", 1, 2, index)
    assert torch.equal(random_keep(x.flip(0), 0.5, "places", torch.tensor(1), 2, index.flip(0)).flip(0), keep)
    for seed, epoch, shift in ((2, 2, 0), (1, 3, 0), (1, 2, 1)):
        assert not torch.equal(random_keep(x, 0.5, "places", seed, epoch, index + shift), keep)
    before = torch.get_rng_state()
    random_keep(x, 0.5, "places", 1, 2, index)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_mask_the_batch_size_does_not_matter():
    student, teacher = draw(3, 4, 4, 4), draw(3, 5, 4, 4)
    term = term_for(showing(student), showing(teacher), mask=0.0)
    once = term(showing(student), showing(teacher), batch_of(3)).item()
    twice = term(showing(torch.cat([student] * 2)), showing(torch.cat([teacher] * 2)), batch_of(6)).item()
    assert twice == pytest.approx(once, rel=1e-12)


def test_maps_of_unequal_size_are_pooled_to_the_smaller_and_only_the_last_counts():
    student, teacher = draw(2, 3, 8, 8), draw(2, 3, 4, 4)
    pooled = torch.nn.functional.avg_pool2d(student, 2)
    term = term_for(showing(draw(2, 2, 9, 9), student), showing(teacher), mask=0.0)
    expected = masked_generation_loss(pooled, teacher, torch.ones(()).double(), term.generate)
    torch.testing.assert_close(term(showing(draw(2, 2, 9, 9), student), showing(teacher), batch_of(2)), expected)
    torch.testing.assert_close(
        term(showing(teacher), showing(student), batch_of(2)),
        masked_generation_loss(teacher, pooled, torch.ones(()).double(), term.generate),
    )


def test_a_stack_of_students_takes_a_stack_of_shares():
    students, teacher = draw(2, 4, 3, 5, 5), draw(4, 3, 5, 5)
    shares = torch.tensor([0.0, 0.9])

    def loss(student, share):
        keep = random_keep(student, share, "places", 1, 1, torch.arange(4))
        return masked_generation_loss(student, teacher, keep, torch.nn.Identity())

    stacked = torch.func.vmap(loss)(students, shares)
    assert stacked[0].item() == pytest.approx(((students[0] - teacher) ** 2).sum().item() / 4, rel=1e-12)
    assert stacked[1] != pytest.approx(((students[1] - teacher) ** 2).sum().item() / 4, rel=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_maps_leave_value_and_gradient_finite(scale):
    student = (scale * torch.randn(2, 4, 4, 4)).requires_grad_()
    term = MGD()
    term.setup(showing(student), showing(torch.randn(2, 4, 4, 4)))
    loss = term(showing(student), showing(scale * torch.randn(2, 4, 4, 4)), batch_of(2))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("mask", [-0.1, 1.0])
def test_a_share_outside_of_its_range_is_refused(mask):
    with pytest.raises(ValueError, match="kd.mask is the share"):
        MGD(mask=mask)


def test_wrong_settings_and_teachers_are_refused():
    with pytest.raises(ValueError, match="kd.masked must be places or channels"):
        MGD(masked="pixels")
    with pytest.raises(ValueError, match="maps of the teacher"):
        MGD().setup(showing(draw(2, 3, 4, 4)), Outputs(torch.zeros(2, 6)))
