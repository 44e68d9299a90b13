"""Reference convolution, batch norm and sigmoid, one number at a time, for the tests of this folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def places(x: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows and columns of a map [..., H, W]."""
    yield from np.ndindex(x.shape[-2:])


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[I, H, W] with [1, I, k, k], zeros around: [H, W]."""
    kernel = weight.shape[-1]
    out = np.zeros(x.shape[-2:])
    for row, column in places(x):
        for i, a, b in np.ndindex(weight.shape[1:]):
            y, z = row + a - kernel // 2, column + b - kernel // 2
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[row, column] += x[i, y, z] * weight[0, i, a, b]
    return out


def dense(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """A 1x1 convolution of one vector [I]: [O]."""
    bias = 0 if layer.bias is None else numbers(layer.bias)
    return numbers(layer.weight)[:, :, 0, 0] @ x + bias


def normalise(x: np.ndarray, layer: nn.BatchNorm2d) -> np.ndarray:
    """A batch norm in eval mode, channels first."""
    mean, var, weight, bias = map(numbers, (layer.running_mean, layer.running_var, layer.weight, layer.bias))
    return np.stack([(x[c] - mean[c]) / math.sqrt(var[c] + layer.eps) * weight[c] + bias[c] for c in range(len(x))])


def numbers(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def shaken(layer: nn.Module, seed: int = 0) -> nn.Module:
    """Return ``layer`` in double precision and eval mode, with random weights and statistics: no zeros, no ones."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    for name, x in [*layer.named_parameters(), *layer.named_buffers()]:
        if x.is_floating_point():
            with torch.no_grad():
                x.copy_(torch.randn(x.shape, generator=generator, dtype=x.dtype) * 0.5)
                if name.endswith("running_var"):
                    x.abs_().add_(0.5)
    return layer


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agrees(layer: nn.Module, reference: Callable[[np.ndarray], np.ndarray], x: torch.Tensor) -> None:
    """Assert that ``layer`` equals ``reference``, [C, H, W] -> [C, H, W], for each image of ``x``."""
    with torch.no_grad():
        given = layer(x)
    expected = torch.from_numpy(np.stack([reference(numbers(image)) for image in x]))
    torch.testing.assert_close(given, expected, atol=1e-10, rtol=1e-10)
