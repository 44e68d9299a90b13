"""Values and gradients from published implementations; tests/golden/losses.json names the code and the inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import GOLDEN, golden

DTYPES = [torch.float64, torch.float32]


@cache
def inputs() -> dict[str, np.ndarray]:
    """Return the arrays that entries name; floats are stored in float32 without loss."""
    with np.load(GOLDEN / "losses.npz") as file:
        return {name: file[name] for name in file.files}


def array(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return an input by its name: floats as ``dtype``, integers as int64."""
    values = torch.tensor(inputs()[name])  # a copy: a test may write into it
    return values.to(dtype) if values.is_floating_point() else values


def entries(*methods: str) -> Callable:
    """Decorate a test that takes ``entry`` and ``dtype``: it runs for every published setting of these methods."""
    found = [entry for entry in golden("losses")["entries"] if entry["method"] in methods]
    assert {entry["method"] for entry in found} == set(methods)
    cases = [
        pytest.param(entry, dtype, id=f"{entry['id']}-{str(dtype).removeprefix('torch.')}")
        for entry in found
        for dtype in DTYPES
    ]
    return pytest.mark.parametrize(("entry", "dtype"), cases)


def agrees(entry: dict, dtype: torch.dtype, loss: Callable[..., Tensor], gradient: bool = True) -> None:
    """Assert that ``loss(*inputs)`` has the published value and gradient: to 1e-10, in float32 to 1e-5.

    Args:
        gradient: False leaves the gradient's norm in float32 out, where cancellation leaves nothing of it.
    """
    given = {name: array(name, dtype) for name in entry["inputs"]}
    given[entry["grad_wrt"]].requires_grad_()
    value = loss(*given.values())
    value.backward()
    slope = given[entry["grad_wrt"]].grad.double()
    exact = 1e-10 if dtype == torch.float64 else 1e-5
    assert value.dtype == dtype and value.ndim == 0
    assert value.item() == pytest.approx(entry["value"], rel=exact, abs=exact)
    if dtype == torch.float64 or gradient:
        assert slope.norm().item() == pytest.approx(entry["grad_norm"], rel=exact, abs=1e-10)
    if dtype == torch.float64:
        every = torch.cos(torch.arange(slope.numel(), dtype=torch.float64) + 1)
        assert (slope.flatten() * every).sum().item() == pytest.approx(entry["grad_dot_cos"], rel=1e-10, abs=1e-10)
        assert slope.flatten()[:5].tolist() == pytest.approx(entry["grad_first5"], rel=1e-10, abs=1e-10)
