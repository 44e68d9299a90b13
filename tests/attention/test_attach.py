"""Any attention on any convolutional backbone: same shapes, gradients everywhere, observe equals forward."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.attention.attach import attach, stages_of
from kd.interfaces import observe
from kd.models.backbone import build
from tests.conftest import compose, options

BACKBONES = ["resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002"]


@pytest.mark.parametrize("attention", options("attention"))
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_attention_fits_every_backbone(attention, backbone):
    torch.manual_seed(0)
    option = compose(f"attention={attention}").attention
    plain = build(backbone, 6, 64, stem="large").eval()
    network = attach(build(backbone, 6, 64, stem="large"), instantiate(option.wrap), option.stages).eval()
    image = torch.rand(2, 3, 64, 64)
    shown = observe(network, image)
    assert shown.logits.shape == (2, 6)
    assert torch.equal(shown.logits, network(image))
    depth = [f.shape[1] for f in shown.features]
    assert depth == [f.shape[1] for f in observe(plain, image).features]
    shown.logits.sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None]
    assert not silent, "a parameter that takes no part in the forward pass is not counted as ours"


def test_stages_of_a_resnet_are_its_stem_and_its_four_layers():
    stages = stages_of(build("resnet18", 6, 64, stem="large"))
    assert [paths for paths, _ in stages] == [
        ["conv1", "bn1", "act1", "maxpool"], ["layer1"], ["layer2"], ["layer3"], ["layer4"],
    ]  # fmt: skip
    assert [channels for _, channels in stages] == [64, 64, 128, 256, 512]


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="stage 7.*0 to 4"):
        attach(build("resnet18", 6, 64), lambda stage, channels: stage, [7])
