"""Any attention on any convolutional backbone: same shapes, gradients everywhere, both forward passes agree."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from kd.attention.attach import attach, stages_of
from kd.attention.gate import SpatialGate
from kd.attention.maps import gate_maps
from kd.interfaces import extract_outputs
from tests.attention.variants import FAMILIES, SIZE, network, variant, wrap
from tests.conftest import options

IMAGE = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@functools.cache
def shapes(family: str) -> list[torch.Size]:
    with torch.no_grad():
        return [f.shape for f in extract_outputs(network(family).eval(), IMAGE, frozenset()).features]


def loss(logits: Tensor) -> Tensor:
    """A weighted sum of logits; a plain sum has no gradient where a batch norm follows."""
    return (logits * torch.arange(logits.numel()).view_as(logits)).sum()


def tried(option: str, family: str, seed: int) -> list[str]:
    """Check the contract for one initialisation of the attention; return the weights without a gradient."""
    plain, stages = network(family), variant(option).stages
    own = {id(p) for p in plain.parameters()}
    torch.manual_seed(seed)
    changed = attach(plain, wrap(option), stages).eval()
    added = {name: p for name, p in changed.named_parameters() if id(p) not in own}
    with torch.no_grad():
        for p in added.values():  # weights that start at zero (nl, gca) hide those before them until the first step
            if not p.any():
                p.normal_(std=0.1)
    shown = extract_outputs(changed, IMAGE, frozenset())
    with torch.no_grad():
        assert torch.equal(shown.logits, changed(IMAGE)), "both forward passes agree, and eval mode is deterministic"
    first = 1 if stages and 0 in stages else 0  # a pool after the stem belongs to it: its map comes after both
    assert [f.shape for f in shown.features][first:] == shapes(family)[first:]
    assert shown.features[0].shape[:2] == shapes(family)[0][:2]
    loss(shown.logits).backward()
    silent = [name for name, p in changed.named_parameters() if p.grad is None]
    assert not silent, "every parameter takes part in the forward pass"
    # a bias may have a gradient of 0: a softmax over places (gc, nl) does not depend on it
    return [name for name, p in added.items() if p.ndim > 1 and not p.grad.any()]


@pytest.mark.parametrize("option", options("attention"))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_fits_every_family(option, family):
    dead = tried(option, family, seed=0)
    if dead:  # a bottleneck of eight ReLUs may be silent by chance
        dead = set(dead) & set(tried(option, family, seed=1))
    assert not dead


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_cut(family):
    """The check covers what the test above does not see: a stage that is not the chain of its modules."""
    plain = network(family)
    before, modes = stages_of(plain), [m.training for m in plain.modules()]
    attach(plain, lambda stage, channels: stage, range(len(before)), SIZE)
    assert stages_of(plain) == before
    changed = attach(network(family), wrap("cbam"), None, SIZE)
    assert stages_of(changed) == before, "a gate stays at the path of its stage"
    assert [m.training for m in network(family).modules()] == modes
    maps = gate_maps(changed, IMAGE)
    assert list(maps) == [f"stage {number}" for number in range(1, len(before))]
    assert [m.shape for m in maps.values()] == [(2, *shape[2:]) for shape in shapes(family)[1:]]


def test_a_gate_that_is_spatial_says_so_itself():
    gates = {}
    for option in options("attention"):
        changed = attach(network("test_efficientnet"), wrap(option), variant(option).stages)
        gates[option] = any(isinstance(m, SpatialGate) for m in changed.modules())
        assert bool(gate_maps(changed, IMAGE)) == gates[option], option
    assert gates["vea"] and gates["cbam"] and not gates["se"] and not gates["none"]


@pytest.mark.parametrize("option", options("attention"))
def test_the_first_line_of_an_option_names_its_family_and_its_source(option):
    from tests.conftest import CONF

    lines = (CONF / "attention" / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    family, _, rest = lines[0].removeprefix("# ").partition(": ")
    assert family in ("None", "Channel", "Spatial", "Context")
    assert rest.endswith(".") and ("https://" in rest) == ("(" in rest)
    assert lines[1].startswith("# Costs ") and any(line.startswith("# Expect ") for line in lines[1:4])
