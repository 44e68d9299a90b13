"""DOT: published steps, and each case of its rule as a loop over numbers has it."""

from __future__ import annotations

import pytest
import torch

from kd.train.dot import DOT
from tests.methods.published import array, entries

PATTERNS = {"both": (True, True), "task_only": (True, False), "kd_only": (False, True)}


def stepped(p: torch.Tensor, labels, rest, **settings) -> torch.Tensor:
    """Return p after a step for each pair of gradients, of which one may be None."""
    p = torch.nn.Parameter(p.clone())
    optimizer = DOT([p], **settings)
    for own, other in zip(labels, rest, strict=True):
        optimizer.zero_grad()
        p.grad = None if own is None else own.clone()
        optimizer.rest = {} if other is None else {p: other.clone()}
        optimizer.step()
    return p.detach()


@entries("DOT_steps")
def test_dot_takes_the_published_steps(entry, dtype):
    s = entry["settings"]
    p0, labels, rest = (array(name, dtype) for name in entry["inputs"])
    has_labels, has_rest = PATTERNS[s["gradients"]]
    numbers = {name: s[name] for name in ("lr", "momentum", "delta", "weight_decay", "dampening")}
    steps = range(s["steps"])
    p = stepped(
        p0,
        [labels[i] if has_labels else None for i in steps],
        [rest[i] if has_rest else None for i in steps],
        **numbers,
    )
    exact = {"rel": 1e-10} if dtype == torch.float64 else {"rel": 2e-5}
    assert p.dtype == dtype
    every = torch.cos(torch.arange(p.numel(), dtype=torch.float64) + 1)
    assert (p.double().flatten() * every).sum().item() == pytest.approx(entry["value"], **exact)
    assert p.double().norm().item() == pytest.approx(entry["param_norm"], **exact)
    assert p.flatten()[:5].tolist() == pytest.approx(entry["param_first5"], **exact)


def by_loop(p, labels, rest, lr, momentum, delta, weight_decay, dampening):
    """The rule of the authors' code for one number: which momentum, and when weight decay joins."""
    of_labels = of_rest = None
    for own, other in zip(labels, rest, strict=True):
        start = p
        if own is not None:
            own = own + weight_decay * start
            m = momentum - delta if other is not None else momentum
            of_labels = own if of_labels is None else m * of_labels + (1 - dampening) * own
            p = p - lr * of_labels
        if other is not None:
            if of_rest is None:
                of_rest = other
            elif own is not None:
                of_rest = (momentum + delta) * of_rest + (1 - dampening) * other
            else:
                of_rest = momentum * of_rest + (1 - dampening) * (other + weight_decay * start)
            p = p - lr * of_rest
    return p


@pytest.mark.parametrize("seed", range(6))
def test_gradients_may_come_and_go(seed):
    """A term that begins later, an adapter, a head of its own: any pattern of gradients over eight steps."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(2, 8, dtype=torch.float64, generator=generator).tolist()
    there = (torch.rand(2, 8, generator=generator) < 0.6).tolist()
    labels, rest = (
        [x if is_there else None for x, is_there in zip(*pair, strict=True)] for pair in zip(draws, there, strict=True)
    )
    numbers = {"lr": 0.1, "momentum": 0.9, "delta": 0.06, "weight_decay": 0.02, "dampening": 0.1 * (seed % 2)}
    tensors = [[None if x is None else torch.tensor([x], dtype=torch.float64) for x in part] for part in (labels, rest)]
    found = stepped(torch.tensor([0.7], dtype=torch.float64), *tensors, **numbers)
    assert found.item() == pytest.approx(by_loop(0.7, labels, rest, **numbers), rel=1e-12)


def test_without_a_difference_it_is_sgd_with_momentum():
    p0, labels, rest = (array(name) for name in ("dot_p0", "dot_gt", "dot_gk"))
    p = torch.nn.Parameter(p0.clone())
    sgd = torch.optim.SGD([p], 0.05, momentum=0.9, weight_decay=0.01)
    for own, other in zip(labels, rest, strict=True):
        p.grad = own + other
        sgd.step()
    numbers = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    torch.testing.assert_close(stepped(p0, labels, rest, delta=0.0, **numbers), p.detach())
    alone = stepped(p0, labels, [None] * len(labels), delta=0.075, **numbers)
    torch.testing.assert_close(alone, stepped(p0, labels, 0 * rest, delta=0.0, **numbers))


def test_its_state_goes_round_to_the_bit():
    p0, labels, rest = (array(name, torch.float32) for name in ("dot_p0", "dot_gt", "dot_gk"))
    whole = stepped(p0, labels, rest, lr=0.05)
    p = torch.nn.Parameter(p0.clone())
    optimizer = DOT([p], lr=0.05)
    for number, (own, other) in enumerate(zip(labels, rest, strict=True)):
        if number == 3:
            state, optimizer = optimizer.state_dict(), DOT([p], lr=1.0)
            optimizer.load_state_dict(state)
        p.grad, optimizer.rest = own, {p: other}
        optimizer.step()
    assert torch.equal(p.detach(), whole)


@pytest.mark.parametrize(
    "numbers", [{"delta": -0.1}, {"momentum": 0.9, "delta": 0.1}, {"momentum": 0.05}, {"dampening": 1.0}]
)
def test_momenta_out_of_their_range_are_refused(numbers):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        DOT([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **numbers)
