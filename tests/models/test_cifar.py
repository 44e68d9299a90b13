"""The CIFAR networks of KD papers agree with RepDistiller's in every number and every name."""

from __future__ import annotations

import hashlib
import math
import re

import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import get_object

from kd.attention.attach import attach, stages_of
from kd.attention.vea import VisionEagle
from kd.evaluation.cost import macs, params
from kd.interfaces import extract_outputs
from tests.conftest import CONF, golden

GOLDEN = golden("cifar")
OPTIONS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((CONF / "student").glob("*.yaml"))}
CIFAR = [name for name, text in OPTIONS.items() if text.startswith("# CIFAR: ")]
SMALL = {  # one of each class, quick to run
    "resnet8": {},
    "wrn_16_1": {},
    "vgg8": {"width": 0.25},
    "mobilenetv2": {},
    "shufflenetv1": {"width": 0.5},
    "shufflenetv2": {"width": 0.5},
    "resnet50_cifar": {"width": 0.125, "blocks": [1, 2, 1, 1]},
}


def build(name: str, num_classes: int = 100, image_size: int = 32, device: str = "cpu", **settings) -> torch.nn.Module:
    option = yaml.safe_load(OPTIONS[name]) | settings
    with torch.device(device):
        return get_object(option.pop("_target_"))(num_classes=num_classes, image_size=image_size, **option)


PERIOD = 1_000_003
K = torch.arange(PERIOD)
NUMBERS = (2 * ((40503 * K**2 + 65537 * K) % PERIOD).double() / PERIOD - 1) * 3**0.5


def unit(count: int, position: int) -> torch.Tensor:
    """Return pseudo-random numbers in [-sqrt 3, sqrt 3] of variance 1, for weights and images."""
    start = 7919 * position % PERIOD
    rounds = math.ceil((start + count) / PERIOD)
    return (NUMBERS if rounds == 1 else NUMBERS.repeat(rounds))[start : start + count]


def weight(name: str, position: int, like: torch.Tensor) -> torch.Tensor:
    """Return weights large enough that every layer affects the logits, and small enough for 110 layers."""
    w = unit(like.numel(), position).reshape(like.shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if name.endswith("running_var"):
        return 1 + 0.2 * w**2
    if name.endswith(("running_mean", "bias")):
        return 0.1 * w
    if like.ndim == 4:
        return w * (2 / like[0].numel()) ** 0.5
    return w * like.shape[1] ** -0.5 if like.ndim == 2 else 0.8 + 0.1 * w


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Load the weights of the formula, in float64, into a network on the meta device."""
    drawn = {name: weight(name, at, like) for at, (name, like) in enumerate(network.state_dict().items())}
    network.load_state_dict(drawn, assign=True)
    return network.eval()


def image_of(size: int) -> torch.Tensor:
    return unit(2 * 3 * size**2, 100_000).reshape(2, 3, size, size)


def digest(network: torch.nn.Module) -> str:
    """Return a digest of the names and shapes in the state dict."""
    lines = [f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def summary(x: torch.Tensor) -> dict:
    """Return what a golden file stores of a tensor: its first numbers, its mean, and its product with a wave."""
    flat = x.double().flatten()
    wave = torch.cos(torch.arange(flat.numel(), dtype=torch.float64))
    first = flat[:4].tolist()
    return {"shape": list(x.shape), "mean": flat.mean().item(), "wave": (flat @ wave).item(), "first": first}


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['option']}-{c['image_size']}-{c['settings']}")
def test_logits_maps_and_names_are_the_published_ones(case):
    network = build(case["option"], image_size=case["image_size"], device="meta", **case["settings"])
    assert digest(network) == case["state_dict"], "a published checkpoint would not load"
    assert params(network) == case["params"]
    with torch.no_grad():
        shown = extract_outputs(fill(network), image_of(case["image_size"]))
    for found, expected in zip((*shown.features, shown.logits), (*case["features"], case["logits"]), strict=True):
        found = summary(found)
        assert found["shape"] == expected["shape"]
        for key in ("mean", "wave", "first"):
            scale = max(map(abs, expected["first"]))
            assert found[key] == pytest.approx(expected[key], rel=1e-10, abs=1e-10 * scale), key


def test_every_network_of_the_family_has_a_golden_case():
    assert {case["option"] for case in GOLDEN["cases"]} == set(CIFAR)


@pytest.mark.parametrize("name", CIFAR)
def test_costs_are_those_in_the_yaml(name):
    network = build(name, device="meta")
    stated = re.search(r"Costs ([\d,]+) parameters at 100 classes, ([\d.]+) ([MG]) multiply-accumulates", OPTIONS[name])
    assert params(network) == int(stated[1].replace(",", ""))
    assert macs(network, 32) == pytest.approx(float(stated[2]) * {"M": 1e6, "G": 1e9}[stated[3]], rel=5e-3)


@pytest.mark.parametrize("name", SMALL)
def test_both_forward_passes_agree_and_the_head_reads_the_last_map(name):
    network = build(name, 10, **SMALL[name]).eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        shown = extract_outputs(network, image, {"embedding", "features", "class_maps"})
        last, features = network.forward_intermediates(image)
        assert torch.equal(shown.logits, network(image))
    assert features[-1] is last
    assert shown.embedding.shape == (2, network.feature_info[-1]["num_chs"])
    torch.testing.assert_close(shown.class_maps.mean((2, 3)), shown.logits)
    for info, feature in zip(network.feature_info, features, strict=True):
        assert feature.shape == (2, info["num_chs"], 32 // info["reduction"], 32 // info["reduction"])


@pytest.mark.parametrize("name", SMALL)
def test_attention_goes_on_every_stage(name):
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        plain = extract_outputs(build(name, 10, **SMALL[name]).eval(), image)
        network = build(name, 10, **SMALL[name]).eval()
        stages = range(len(stages_of(network)))
        logits = network(image)
        attach(network, lambda stage, channels: stage, stages)  # the children between two boundaries are a Sequential
        assert torch.equal(network(image), logits)
        shown = extract_outputs(attach(build(name, 10, **SMALL[name]), VisionEagle, stages).eval(), image)
    assert [f.shape for f in shown.features] == [f.shape for f in plain.features]
    assert shown.logits.isfinite().all()


LEAST = {"resnet": 4, "wrn": 4, "vgg": 8, "mobilenetv2": 16, "shufflenet": 8, "resnet50_cifar": 8}


@pytest.mark.parametrize("name", SMALL)
def test_any_size_from_the_least_on(name):
    least = LEAST.get(name) or next(size for start, size in LEAST.items() if name.startswith(start))
    for size in (least, least + 3):
        network = build(name, 10, size, **SMALL[name]).eval()
        assert network(torch.rand(1, 3, size, size)).shape == (1, 10)
    with pytest.raises(ValueError, match=f"data.image_size must be {least} or more, got {least - 1}"):
        build(name, 10, least - 1)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet8", {"depth": 10}, "depth of a CIFAR ResNet must be 6 n \\+ 2 .*got 10"),
        ("resnet8", {"depth": 2}, "depth .*got 2"),
        ("resnet8", {"channels": [16, 32, 64]}, "channels must be four numbers"),
        ("resnet8", {"width": 0}, "width must be above 0"),
        ("wrn_16_1", {"depth": 20}, "depth of a wide ResNet must be 6 n \\+ 4 .*got 20"),
        ("wrn_16_1", {"widen": 0}, "widen must be above 0, got 0"),
        ("vgg8", {"convolutions": [1, 1]}, "convolutions must be five numbers"),
        ("mobilenetv2", {"expansion": 0}, "expansion must be 1 or more, got 0"),
        ("shufflenetv2", {"width": 0.7}, "width of shufflenetv2 must be one of 0.5, 1.0, 1.5, 2.0, got 0.7"),
        ("resnet50_cifar", {"blocks": [3, 4]}, "blocks must be four numbers"),
    ],
)
def test_wrong_settings_are_answered_with_what_would_be_right(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, device="meta", **settings)


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "mobilenetv2", "resnet50_cifar"])
def test_width_multiplies_every_channel_count(name):
    own = yaml.safe_load(OPTIONS[name])["width"]
    one, two = (build(name, device="meta", width=width * own) for width in (1, 2))
    channels = [[m.out_channels for m in net.modules() if isinstance(m, torch.nn.Conv2d)] for net in (one, two)]
    if name == "mobilenetv2":  # the channels that the pool reads stay, as published
        assert (channels[0].pop(), channels[1].pop()) == (1280, 1280)
    assert [2 * count for count in channels[0]] == channels[1]


def test_weights_start_as_published():
    torch.manual_seed(0)
    for name, std in {"wrn_40_2": 128**-0.5 / 3**0.5, "vgg8": 0.01, "mobilenetv2": 0.01}.items():
        network = build(name)
        *_, linear = (m for m in network.modules() if isinstance(m, torch.nn.Linear))
        assert linear.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not linear.bias.any()
        drawn = max((m for m in network.modules() if isinstance(m, torch.nn.Conv2d)), key=lambda m: m.weight.numel())
        fan_out = drawn.out_channels * drawn.kernel_size[0] ** 2
        assert drawn.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_dropout_is_inside_the_blocks_and_off_in_eval_mode():
    network = build("wrn_16_1", 10, dropout=0.5)
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    network = build("resnet8", 4, 16)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    image, target = torch.rand(16, 3, 16, 16), torch.arange(16) % 4
    losses = []
    for _ in range(15):
        losses.append(F.cross_entropy(network(image), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
