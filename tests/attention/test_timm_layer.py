"""timm's layers agree with the formulas of their papers, and yaml can set their parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from kd.attention.timm_layer import build_layer, settings_of, timm_layer, timm_spatial_gate
from tests.attention.slow import agrees, convolve, dense, drawn, normalise, numbers, places, shaken, sigmoid
from tests.attention.variants import variant
from tests.conftest import options

C = 16
WIDE = {
    "rd_ratio": 0.25,
    "rd_divisor": 1,
}  # a bottleneck of 4: with a single channel of 1/16 a wrong order would not show


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def gated(x: np.ndarray, gate: np.ndarray) -> np.ndarray:
    return np.stack([x[c] * sigmoid(gate[c]) for c in range(len(x))])


def se(layer):
    return lambda x: gated(x, dense(relu(dense(x.mean((1, 2)), layer.fc1)), layer.fc2))


def ese(layer):
    def formula(x):
        scores = dense(x.mean((1, 2)), layer.fc)
        return np.stack([x[c] * min(max(scores[c] + 3, 0), 6) / 6 for c in range(len(x))])

    return formula


def eca(layer, ring: bool = False):
    weight = numbers(layer.conv.weight)[0, 0]
    reach = len(weight) // 2

    def formula(x):
        mean = x.mean((1, 2))
        scores = np.zeros(len(x))
        for c in range(len(x)):
            for k, w in enumerate(weight):
                neighbour = c + k - reach
                if ring or 0 <= neighbour < len(x):
                    scores[c] += w * mean[neighbour % len(x)]
        return gated(x, scores)

    return formula


def cbam(layer):
    def mlp(x):
        return dense(relu(dense(x, layer.channel.fc1)), layer.channel.fc2)

    def formula(x):
        x = gated(x, mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))
        return spatially(x, np.stack((x.mean(0), x.max(0))), layer.spatial)

    return formula


def light_cbam(layer):
    def formula(x):
        pooled = (x.mean((1, 2)) + x.max((1, 2))) / 2
        x = gated(x, dense(relu(dense(pooled, layer.channel.fc1)), layer.channel.fc2))
        return spatially(x, (x.mean(0)[None] + x.max(0)[None]) / 2, layer.spatial)

    return formula


def spatially(x, pooled, layer):
    scores = normalise(convolve(pooled, numbers(layer.conv.conv.weight))[None], layer.conv.bn)[0]
    return x * np.vectorize(sigmoid)(scores)


def context(layer, mlp):
    """A softmax over places, an average, conv 1x1 - layer norm - ReLU - conv 1x1."""

    def formula(x):
        scores = {p: math.exp(dense(x[:, p[0], p[1]], layer.conv_attn)[0]) for p in places(x)}
        mean = sum(s * x[:, p[0], p[1]] for p, s in scores.items()) / sum(scores.values())
        middle = dense(mean, mlp.fc1)
        middle = (middle - middle.mean()) / np.sqrt(middle.var() + mlp.norm.eps)
        return dense(relu(middle * numbers(mlp.norm.weight) + numbers(mlp.norm.bias)), mlp.fc2)

    return formula


def gc(layer):
    return lambda x: gated(x, context(layer, layer.mlp_scale)(x))


def gca(layer):
    return lambda x: x + context(layer, layer.mlp_add)(x)[:, None, None]


def ge(extent: int):
    def formula(x):
        if not extent:
            return gated(x, x.mean((1, 2)))
        out = np.zeros_like(x)
        rows, columns = (math.ceil(side / extent) for side in x.shape[1:])
        for r, c in places(x):
            row, column = r * rows // x.shape[1] * extent, c * columns // x.shape[2] * extent
            near = x[:, max(0, row - extent + 1) : row + extent, max(0, column - extent + 1) : column + extent]
            out[:, r, c] = x[:, r, c] * np.vectorize(sigmoid)(near.mean((1, 2)))
        return out

    return lambda layer: formula


def nl(layer):
    def formula(x):
        out = np.zeros_like(x)
        for p in places(x):
            query = dense(x[:, p[0], p[1]], layer.t)
            scores = {q: math.exp(query @ dense(x[:, q[0], q[1]], layer.p) / math.sqrt(len(x))) for q in places(x)}
            total = sum(scores.values())
            mixed = sum(s / total * dense(x[:, q[0], q[1]], layer.g) for q, s in scores.items())
            out[:, p[0], p[1]] = dense(mixed, layer.z)
        return x + normalise(out, layer.norm)

    return formula


REFERENCES = {
    "se": (se, WIDE),
    "ese": (ese, {}),
    "eca": (eca, {}),
    "ceca": (lambda layer: eca(layer, ring=True), {}),
    "cbam": (cbam, WIDE),
    "lcbam": (light_cbam, WIDE),
    "gc": (gc, WIDE),
    "gca": (gca, WIDE),
    "ge": (ge(0), {"use_mlp": False}),
    "ge, extent 2": (ge(2), {"use_mlp": False, "extent": 2}),
    "nl": (nl, WIDE),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_a_layer_is_its_papers_formula(case):
    reference, settings = REFERENCES[case]
    layer = shaken(build_layer(case.split(",")[0], C, settings))
    agrees(layer, reference(layer), drawn(2, C, 4, 5))


def of_timm() -> dict[str, dict]:
    wraps = {option: variant(option).wrap for option in options("attention")}
    return {option: wrap for option, wrap in wraps.items() if wrap and "timm_layer" in wrap._target_}


def test_every_layer_that_an_option_names_has_its_reference():
    assert {wrap.layer for wrap in of_timm().values()} == {case.split(",")[0] for case in REFERENCES}


def test_every_setting_in_yaml_is_a_parameter_of_the_layer():
    for option, wrap in of_timm().items():
        assert wrap.settings and set(wrap.settings) <= set(settings_of(wrap.layer)), option


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_eca_reaches_as_far_as_its_paper_says(channels, kernel):
    t = abs(math.log2(channels) + 1) / 2
    assert kernel - 1 <= t < kernel + 1, "the odd number nearest to t"
    layer = build_layer("eca", channels, {"gamma": 2, "beta": 1})
    assert sum(p.numel() for p in layer.parameters()) == kernel


@pytest.mark.parametrize(
    ("layer", "settings", "count"),
    [
        ("se", {"rd_ratio": 1 / 16}, 2 * 256 * 16 + 16 + 256),
        ("ese", {}, 256 * 256 + 256),
        ("cbam", {"rd_ratio": 1 / 16}, 2 * 256 * 16 + 2 * 49 + 2),
        ("lcbam", {"rd_ratio": 1 / 16}, 2 * 256 * 16 + 49 + 2),
        ("gc", {"rd_ratio": 1 / 8}, 256 + 1 + 2 * 256 * 32 + 32 + 256 + 2 * 32),
        ("gca", {"rd_ratio": 1 / 8}, 256 + 1 + 2 * 256 * 32 + 32 + 256 + 2 * 32),
        ("ge", {"use_mlp": False}, 0),
        ("nl", {"rd_ratio": 1 / 8}, 4 * 256 * 32 + 3 * 32 + 256 + 2 * 256),
    ],
)
def test_parameters_at_256_channels(layer, settings, count):
    assert sum(p.numel() for p in build_layer(layer, 256, settings).parameters()) == count


def test_squeeze_and_excitation_has_a_bottleneck_of_a_sixteenth():
    wrap = of_timm()["se"]
    layer = build_layer(wrap.layer, 512, wrap.settings)
    assert (layer.fc1.out_channels, layer.fc2.out_channels) == (32, 512)


@pytest.mark.parametrize("layer", ["nl", "gca"])
def test_what_is_added_starts_as_nothing(layer):
    made, x = build_layer(layer, C, {}).eval(), torch.randn(2, C, 4, 4)
    spread = (made(x) - x).std((2, 3)).max()
    assert spread < 1e-6, "the same number everywhere: a bias"


def test_a_layer_or_a_setting_that_timm_does_not_know_is_named():
    with pytest.raises(ValueError, match="attention.wrap.layer: timm has no attention layer 'cabm'"):
        timm_layer(nn.Identity(), 8, "cabm", {})
    with pytest.raises(ValueError, match="attention.wrap.settings.ratio: timm's se takes rd_ratio, .*add_maxpool"):
        timm_layer(nn.Identity(), 8, "se", {"ratio": 2})
    with pytest.raises(ValueError, match="settings.rd_ratio: timm's ese takes add_maxpool, gate_layer"):
        timm_spatial_gate(nn.Identity(), 8, "ese", {"rd_ratio": 2})  # its constructor swallows what it does not know
