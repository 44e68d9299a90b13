"""What must be equal on every device: random bits, views, matrices of maps, exported programs, random states."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kd.augment.affine import Affine
from kd.augment.chain import Chain
from kd.models.exported import Exported
from kd.models.normalized import Normalized
from kd.models.weights import load_external
from kd.runtime.resampling import average_pool, resize_bilinear
from kd.runtime.rng import random_bits, random_states, restore_random_states
from tests.gpu.conftest import no_waiting, only_deterministic
from tests.models.programs import CLASSES, PROGRAMS, SIZE
from tests.models.test_exported import saved

INDEX = torch.tensor([0, 1, 7, 2**31, 2**40, 13])


@pytest.mark.parametrize("seed", [0, 1, 2**53, torch.tensor(2**61 + 3)])
def test_random_bits_are_those_of_the_cpu(device, seed):
    there = random_bits(seed, 3, INDEX.to(device.device), 50)
    assert there.device.type == device.device.type
    assert torch.equal(there.cpu(), random_bits(seed, 3, INDEX, 50))


@pytest.mark.parametrize("augment", [Affine(flip=0.5), Affine(0.5, 0.2, 0.3, 20.0)], ids=["flip", "all"])
def test_views_are_those_of_the_cpu(device, augment):
    image = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    chain = Chain([augment], 20, 20)
    there = chain(image.to(device.device), 5, 2, INDEX)
    torch.testing.assert_close(there.cpu(), chain(image, 5, 2, INDEX), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("size", [(3, 2), (4, 3), (12, 8), (1, 1), (7, 11)])
@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (average_pool, F.adaptive_avg_pool2d),
        (resize_bilinear, lambda x, size: F.interpolate(x, size, mode="bilinear", align_corners=False)),
    ],
    ids=["average", "bilinear"],
)
def test_maps_are_pooled_and_resized_as_on_the_cpu(device, on_gpu, ours, torchs, size):
    x = torch.randn(4, 5, 6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = x.detach().to(device.device).requires_grad_()
    with only_deterministic():
        ours(y, *size).square().sum().backward()
        y.grad = None
        with no_waiting(on_gpu):
            found = ours(y, *size)
            found.square().sum().backward()
    expected = torchs(x, size)
    expected.square().sum().backward()
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y.grad.cpu(), x.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", PROGRAMS, ids=lambda made: made.__name__)
def test_an_exported_program_answers_as_on_the_cpu(device, made, tmp_path):
    torch.manual_seed(0)
    network, image = made().eval(), torch.rand(5, 3, SIZE, SIZE)
    box = Normalized(Exported(CLASSES, SIZE, trusted=True), (0.0,) * 3, (1.0,) * 3)
    load_external(box, saved(tmp_path / "made.pt2", network))
    with torch.no_grad():
        there = device.to_device(box).eval()(image.to(device.device))
        torch.testing.assert_close(there.cpu(), network(image), rtol=1e-4, atol=1e-4)


def test_random_states_come_back(device):
    states = random_states(device.device)
    first = torch.rand(5, device=device.device), torch.rand(5)
    restore_random_states(states, device.device)
    second = torch.rand(5, device=device.device), torch.rand(5)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
