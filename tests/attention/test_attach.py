"""Where ``attach`` cuts stages, and which networks it refuses, by name and before any training."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from kd.attention.attach import attach, stages_of
from kd.attention.gate import Gated
from kd.models.backbone import build
from kd.models.tiny_cnn import TinyCNN
from tests.attention.variants import network, wrap


def test_stages_of_a_resnet_are_its_stem_and_its_four_layers():
    stages = stages_of(build("resnet18", 6, 64, stem="large"))
    assert [paths for paths, _ in stages] == [
        ["conv1", "bn1", "act1", "maxpool"], ["layer1"], ["layer2"], ["layer3"], ["layer4"],
    ]  # fmt: skip
    assert [channels for _, channels in stages] == [64, 64, 128, 256, 512]


def test_a_pool_opens_the_stage_after_it_where_it_does_not_close_the_stem():
    paths = [paths for paths, _ in stages_of(network("vgg"))]
    assert paths[:2] == [["features.0", "features.1", "features.2"], ["features.3", "features.4"]]
    assert paths[2][0] == "features.5" and paths[-1] == ["features.20"]


def test_a_boundary_inside_a_block_of_two_paths_is_a_stage_of_its_own():
    assert [paths for paths, _ in stages_of(network("xception41"))] == [
        ["blocks.0.stack.act3"], ["blocks.1.stack.act3"], ["blocks.2.stack.act3"], ["blocks.4.stack.act3"],
        ["blocks.5"],
    ]  # fmt: skip


def test_a_student_of_our_own_takes_attention_too():
    student = attach(TinyCNN(6, 32), wrap("cbam"), [0, 1, 2], 32)
    assert all(isinstance(stage, Gated) for stage in student.stages)


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="stage 7; resnet18 has 0 to 4"):
        attach(build("resnet18", 6, 64), lambda stage, channels: stage, [7])


def test_the_check_does_not_change_the_network():
    made, states = [network("regnetx_002"), network("regnetx_002")], []
    for plain, size in zip(made, (None, 64), strict=True):
        torch.manual_seed(3)
        attach(plain, wrap("cbam"), None, size)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for (name, a), (other, b) in zip(*(m.state_dict().items() for m in made), strict=True):
        assert name == other and torch.equal(a, b)
    assert [m.training for m in made[0].modules()] == [m.training for m in made[1].modules()]


def tokens() -> nn.Module:
    return build("test_vit", 6, 64)


def windows() -> nn.Module:
    thin = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=6, img_size=64, **thin)


def channels_last() -> nn.Module:
    return build("test_mambaout", 6, 64)


@pytest.mark.parametrize(
    ("make", "shows"),
    [
        (tokens, r"test_vit has \[1, 17, 64\] after stage 1, not \[1, 64, 4, 4\]"),
        (windows, r"swin_tiny_patch4_window7_224 has \[1, 8, 8, 32\] after stage 1, not \[1, 32, 8, 8\]"),
        (channels_last, r"test_mambaout has \[1, 8, 8, 32\] after stage 1"),
    ],
)
@pytest.mark.parametrize("option", ["vea", "cbam"])
def test_a_network_without_maps_is_refused_by_name(make, shows, option):
    with pytest.raises(ValueError, match=rf"needs maps \[B, C, H, W\] .*{shows}.*\n.*take it: resnet18, convnext_atto"):
        attach(make(), wrap(option), [1, 2], 64)


def test_a_stage_without_a_beginning_is_refused_and_the_others_are_named():
    with torch.device("meta"):
        network = timm.create_model("tresnet_m", num_classes=6)
    with pytest.raises(ValueError, match=r"tresnet_m does not say where its stage 1 begins .*stages=\[2, 3, 4\]"):
        attach(network, wrap("se"))


class Two(nn.Module):
    """Two convolutions, by hand."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 6)
        self.feature_info = [
            {"num_chs": 8, "reduction": 1, "module": "first"},
            {"num_chs": 8, "reduction": 1, "module": "third"},
        ]

    def between(self, x):
        return x

    def forward_intermediates(self, image):
        stem = self.first(image)
        last = self.third(self.between(self.second(stem)))
        return last, [stem, last]

    def forward_head(self, last, pre_logits=False):
        return last.mean((2, 3)) if pre_logits else self.head(last.mean((2, 3)))

    def forward(self, image):
        return self.forward_head(self.forward_intermediates(image)[0])


class NoChain(Two):
    def between(self, x):
        return x.relu()


class GoesPast(Two):
    """Its forward calls a method of the module and not the module itself."""

    def forward(self, image):
        stem = self.first(image)
        last = self.third.forward(self.second.forward(stem))
        return self.forward_head(last)


class Bare(Two):
    def __init__(self):
        super().__init__()
        self.feature_info = []


class Halving(nn.Module):
    def __init__(self, stage, channels):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return self.stage(x)[..., ::2, ::2]


@pytest.mark.parametrize(
    ("make", "attention", "text"),
    [
        (NoChain, wrap("se"), r"stages \[1\] of NoChain are not chains of modules, and cannot be cut out"),
        (GoesPast, wrap("se"), "GoesPast does not call the module at its stage 1, second"),
        (Bare, wrap("se"), "Bare has no stage after its stem to attach attention to; use attention=none"),
        (Two, Halving, r"changes the shape of stage 1 of Two, from \[1, 8, 16, 16\] to \[1, 8, 8, 8\]"),
        (Two, lambda stage, channels: nn.Sequential(stage, nn.Conv2d(9, 8, 1)), "attention.wrap does not fit Two: "),
    ],
)
def test_what_would_be_lost_in_training_is_refused_before(make, attention, text):
    with pytest.raises(ValueError, match=text):
        attach(make(), attention, None, 16)


def test_an_image_that_is_too_small_is_named():
    with pytest.raises(ValueError, match="dla46x_c cannot take images of 16 x 16 pixels"):
        attach(network("dla46x_c"), wrap("se"), None, 16)
