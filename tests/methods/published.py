"""Values and gradients from published implementations; tests/golden/losses*.json name the code and the inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from kd.interfaces import Batch, Outputs
from tests.conftest import GOLDEN, golden

DTYPES = [torch.float64, torch.float32]
PARTS = ("losses", "losses2")  # methods up to 2021, and from then on


@cache
def inputs() -> dict[str, np.ndarray]:
    """Return the arrays that entries name; floats are stored in float32 without loss."""
    found = {}
    for part in PARTS:
        with np.load(GOLDEN / f"{part}.npz") as file:
            found |= {name: file[name] for name in file.files}
    return found


def array(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return an input by its name: floats as ``dtype``, integers as int64."""
    values = torch.tensor(inputs()[name])  # a copy: a test may write into it
    return values.to(dtype) if values.is_floating_point() else values


def pair_of_logits(classes: int = 6, count: int = 8) -> Tensor:
    """Return the logits of a student and of a teacher, float64 [2, count, classes], the same at every call."""
    torch.manual_seed(0)
    return 3 * torch.randn(2, count, classes, dtype=torch.float64)


def lesson(classes: int = 6, count: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits of a student and a teacher, float64 [count, classes], and labels of all classes."""
    student, teacher = pair_of_logits(classes, count)
    return student, teacher, torch.arange(count) % classes


def called(term: torch.nn.Module, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Return a term of logits [B, K] and labels [B]."""
    return term(Outputs(student), Outputs(teacher), Batch(None, target, None))


def in_two_views(
    term: torch.nn.Module, weak: tuple[Tensor, Tensor], strong: tuple[Tensor, Tensor], target: Tensor, **batch: float
) -> Tensor:
    """Return a term, or what an objective returns, of two views of a batch of B images.

    Args:
        weak, strong: logits of student and teacher, [B, K] each. target: [B].
    """
    student, teacher = (Outputs(torch.cat(views)) for views in zip(weak, strong, strict=True))
    index = torch.arange(len(target))
    return term(student, teacher, Batch(student.logits, target, index, **batch).repeat_labels(2))


def entries(*methods: str) -> Callable:
    """Decorate a test that takes ``entry`` and ``dtype``: it runs for every published setting of these methods."""
    found = [entry for part in PARTS for entry in golden(part)["entries"] if entry["method"] in methods]
    assert {entry["method"] for entry in found} == set(methods)
    cases = [
        pytest.param(entry, dtype, id=f"{entry['id']}-{str(dtype).removeprefix('torch.')}")
        for entry in found
        for dtype in DTYPES
    ]
    return pytest.mark.parametrize(("entry", "dtype"), cases)


def agrees(
    entry: dict, dtype: torch.dtype, loss: Callable[..., Tensor], gradient: bool = True, exact: float | None = None
) -> None:
    """Assert that ``loss(*inputs)`` has the published value and gradient: to 1e-10, in float32 to 1e-5.

    Args:
        exact: another tolerance, for a published value that is less precise itself.
        gradient: False leaves the gradient's norm in float32 out, where cancellation leaves nothing of it.
    """
    given = {name: array(name, dtype) for name in entry["inputs"]}
    given[entry["grad_wrt"]].requires_grad_()
    value = loss(*given.values())
    value.backward()
    slope = given[entry["grad_wrt"]].grad.double()
    exact = exact or (1e-10 if dtype == torch.float64 else 1e-5)
    assert value.dtype == dtype and value.ndim == 0
    assert value.item() == pytest.approx(entry["value"], rel=exact, abs=exact)
    if dtype == torch.float64 or gradient:
        assert slope.norm().item() == pytest.approx(entry["grad_norm"], rel=exact, abs=1e-10)
    if dtype == torch.float64:
        every = torch.cos(torch.arange(slope.numel(), dtype=torch.float64) + 1)
        assert (slope.flatten() * every).sum().item() == pytest.approx(entry["grad_dot_cos"], rel=exact, abs=1e-10)
        assert slope.flatten()[:5].tolist() == pytest.approx(entry["grad_first5"], rel=exact, abs=1e-10)
