"""Vision Eagle agrees with the published implementation, number for number."""

from __future__ import annotations

import re

import pytest
import torch

from kd.attention.attach import attach
from kd.attention.vea import VisionEagle
from kd.interfaces import extract_outputs
from kd.models.backbone import build
from tests.conftest import golden

GOLDEN = golden("vea_resnet18")


def unit(count: int, position: int) -> torch.Tensor:
    """Return pseudo-random numbers in [-sqrt 3, sqrt 3], for weights and images, by a fixed formula."""
    k = torch.arange(count, dtype=torch.int64)
    u = ((40503 * k**2 + 65537 * k + 7919 * (position + 1)) % 1000003) / torch.tensor(1000003.0, dtype=torch.float64)
    return (2 * u - 1) * 3**0.5


def weight(name: str, position: int, like: torch.Tensor) -> torch.Tensor:
    w = unit(like.numel(), position).reshape(like.shape)
    if name.endswith("running_var"):
        return 1 + 0.2 * w**2
    if name.endswith("running_mean") or name.endswith(".bias"):
        return 0.1 * w
    if like.ndim == 4:
        return w * (2 / like[0].numel()) ** 0.5
    if like.ndim == 2:
        return w * (1 / like.shape[1]) ** 0.5
    return 1 + 0.1 * w


STEM = {"conv1": "0", "bn1": "1"}
OURS = {"1": "conv1", "2": "layer1", "3": "layer2"}  # scan number -> its stage here


def ours(name: str) -> str:
    """Return the name here of a tensor of the published class."""
    if name.startswith("head."):
        return name.replace("head.", "fc.")
    if scan := re.match(r"scan(\d)\.(.*)", name):
        return f"{OURS[scan[1]]}.scan.{scan[2]}"
    tower, module, rest = name.split(".", 2)
    if module in STEM:
        return f"conv1.{tower}.{STEM[module]}.{rest}"
    return f"{module}.{tower}.{rest}" if module in ("layer1", "layer2") else f"{module}.{rest}"


def golden_network(classes: int) -> torch.nn.Module:
    network = attach(build("resnet18", classes, 100, stem="large"), VisionEagle, [0, 1, 2]).double()
    state = network.state_dict()
    mapped = {ours(name): weight(name, i, state[ours(name)]) for i, name in enumerate(GOLDEN["keys_in_order"])}
    left = {name for name in set(state) - set(mapped) if not name.endswith("num_batches_tracked")}
    assert not left, "every tensor of ours has a published one"
    network.load_state_dict(mapped | {n: state[n] for n in state if n.endswith("num_batches_tracked")})
    return network


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['num_classes']}x{c['resolution']}")
def test_logits_and_gradients_are_those_of_the_published_network(case):
    network = golden_network(case["num_classes"])
    size, batch = case["resolution"], case["batch"]
    image = unit(batch * 3 * size**2, 1000).reshape(batch, 3, size, size)
    with torch.no_grad():
        logits = network.eval()(image)
        torch.testing.assert_close(logits, torch.tensor(case["logits_eval"], dtype=torch.float64), atol=1e-9, rtol=0)
        assert torch.equal(extract_outputs(network, image).logits, logits)
    logits = network.train()(image)
    torch.testing.assert_close(logits, torch.tensor(case["logits_train"], dtype=torch.float64), atol=1e-9, rtol=0)
    (logits * torch.cos(torch.arange(logits.numel(), dtype=torch.float64)).reshape_as(logits)).sum().backward()
    gradients = dict(network.named_parameters())
    for name, norm in case["grad_norms_train"].items():
        assert gradients[ours(name)].grad.norm().item() == pytest.approx(norm, rel=1e-8), name


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['num_classes']} classes")
def test_parameters_are_the_live_ones_of_the_published_class(case):
    from tests.conftest import compose

    network = attach(build("resnet18", case["num_classes"], 100, stem="large"), VisionEagle, [0, 1, 2])
    live = sum(p.numel() for p in network.parameters())
    assert live == case["params_live"]
    assert live + compose().attention.unused_published_params["resnet18 [0, 1, 2]"] == case["params_published"]


def test_glance_and_look_have_weights_of_their_own():
    network = attach(build("resnet18", 6, 64), VisionEagle, [0, 1, 2])
    layer = network.layer1
    with torch.no_grad():
        layer.glance[0].conv1.weight.zero_()
    assert layer.look[0].conv1.weight.abs().sum() > 0
