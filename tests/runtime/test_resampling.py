"""Pooling and resizing by matrices: torch's numbers, deterministic on an accelerator, and no transfer in a step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kd.attention.vea import Scan
from kd.runtime import resampling
from kd.runtime.resampling import _average_matrix, _bilinear_matrix, _resample, average_pool, resize_bilinear
from tests.fake_device import FakeDevice

CPU = torch.device("cpu")
SIZES = [(7, 3), (6, 4), (3, 7), (5, 5), (1, 4), (9, 2), (25, 12), (12, 25), (8, 4), (56, 5)]


def checked(ours, torchs) -> None:
    """The same numbers and gradients, but for rounding."""
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    found = []
    for function in (ours, torchs):
        y = function(x)
        weigh = torch.arange(y.numel(), dtype=y.dtype).sin().view_as(y)
        found.append((y, *torch.autograd.grad((y * weigh).sum(), x)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_matrices_average_as_adaptive_pooling_does(height, width):
    rows, columns = _average_matrix(9, height, CPU), _average_matrix(7, width, CPU)
    checked(lambda x: _resample(x, rows, columns), lambda x: F.adaptive_avg_pool2d(x, (height, width)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_matrices_interpolate_as_torch_does(height, width):
    rows, columns = _bilinear_matrix(9, height, CPU), _bilinear_matrix(7, width, CPU)
    checked(lambda x: _resample(x, rows, columns), lambda x: F.interpolate(x, (height, width), mode="bilinear"))


@pytest.mark.parametrize("size", [(3, 2), (2, 4), (1, 1), (9, 7)])
def test_on_a_cpu_the_bits_are_those_of_torchs_kernels(size):
    x = torch.randn(2, 3, 6, 4)
    assert torch.equal(average_pool(x, *size), F.adaptive_avg_pool2d(x, size))
    assert torch.equal(resize_bilinear(x, *size), F.interpolate(x, size, mode="bilinear", align_corners=False))


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("size", [(3, 2), (4, 3), (12, 8), (1, 1), (6, 1)])
def test_elsewhere_nothing_waits_and_nothing_depends_on_the_run(kind, size):
    there, x = FakeDevice(kind), {}

    def both() -> None:
        image = torch.randn(2, 3, 6, 4, device=kind, requires_grad=True)
        x["average"], x["bilinear"] = average_pool(image, *size), resize_bilinear(image, *size)
        if kind == "meta":
            (x["average"].sum() + x["bilinear"].sum()).backward()

    watch = there.run(both)
    assert not watch.found and not watch.arrived
    assert {y.shape for y in x.values()} == {(2, 3, *size)}


def test_a_half_precise_map_stays_half_precise_and_is_averaged_in_float32():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 6, 6)
    rows = _bilinear_matrix(6, 11, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        found = _resample(x.bfloat16(), rows, rows)
    exact = F.interpolate(x.bfloat16().float(), (11, 11), mode="bilinear")
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), exact, rtol=2**-8, atol=1e-6)  # rounded once, at the end


def test_a_matrix_is_made_once_and_one_made_in_evaluation_serves_a_training_step():
    with torch.inference_mode():
        made = resampling._average_matrix(11, 4, CPU)
    assert resampling._average_matrix(11, 4, CPU) is made and not made.is_inference()
    x = torch.randn(1, 1, 11, 11, requires_grad=True)
    _resample(x, made, made).square().sum().backward()
    assert x.grad.any()


def test_vision_eagles_gate_takes_few_operations_to_resize():
    """Deterministic mode would decompose ``F.interpolate`` into 108 operations forward and 63 backward."""
    there = FakeDevice("meta")
    scan = there.move(Scan(4, 8))
    watch = there.run(lambda: scan(torch.randn(2, 4, 24, 24, device="meta"), (24, 24)).sum().backward())
    assert not watch.found and watch.operations < 70
    gate = torch.randn(2, 1, 12, 12, requires_grad=True)
    counted = there.run(lambda: resize_bilinear(torch.randn(2, 1, 12, 12, device="meta"), 24, 24))
    assert counted.operations < 35, "the matrices, which a real device keeps, included"
    assert resize_bilinear(gate, 24, 24).shape == (2, 1, 24, 24)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 5), (96, 80), (48, 20), (60, 37)])
def test_an_antialiased_resize_is_torchs(height, width, monkeypatch):
    """By matrices, as on an accelerator, and by torch's kernel."""
    x = torch.rand(2, 3, 48, 37)
    expected = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    assert torch.equal(resampling.resize_antialiased(x, height, width), expected)
    monkeypatch.setattr(resampling, "_torch_kernels", set())
    torch.testing.assert_close(resampling.resize_antialiased(x, height, width), expected, rtol=0, atol=1e-5)
