"""Options of the config group ``attention``, and one small network of each family to try them on."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import timm
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from timm.layers import ClassifierHead
from timm.models.vgg import VGG
from torch import nn

from kd.models.backbone import build
from tests.conftest import CONF

SIZE = 64  # pixels: the map after the last stage has 2 x 2 places


@functools.cache
def variant(option: str) -> DictConfig:
    return OmegaConf.load(CONF / "attention" / f"{option}.yaml")


def wrap(option: str) -> Callable[[nn.Module, int], nn.Module] | None:
    return instantiate(variant(option).wrap, _convert_="all")


def vgg() -> nn.Module:
    """Return timm's VGG with few channels and without the head of 119 M parameters."""
    with torch.device("meta"):
        network = VGG([8, "M", 16, "M", 24, 24, "M", 32, 32, "M", 32, 32, "M"], num_classes=6)
    network.pre_logits, network.head = nn.Identity(), ClassifierHead(32, 6)
    network.features.to_empty(device="cpu").apply(lambda m: isinstance(m, nn.Conv2d) and m.reset_parameters())
    return network


NARROW = {  # timm's own classes, thin enough for a test
    "densenet121": {"growth_rate": 8, "block_config": (2, 2, 2, 2)},
    "repvit_m0_9": {"embed_dim": (8, 16, 24, 32), "depth": (1, 1, 1, 1)},
    "xception41": {
        "block_cfg": [
            {"in_chs": 64, "out_chs": 16, "stride": 2},
            {"in_chs": 16, "out_chs": 24, "stride": 2},
            {"in_chs": 24, "out_chs": 32, "stride": 2},
            {"in_chs": 32, "out_chs": 32, "stride": 1},
            {"in_chs": 32, "out_chs": (32, 40, 40), "stride": 2},
            {"in_chs": 40, "out_chs": 48, "stride": 1, "no_skip": True, "start_with_relu": False},
        ]
    },
}
AS_THEY_ARE = (
    *("resnet10t", "regnetx_002", "convnext_atto", "test_efficientnet", "tinynet_e", "mobilenetv2_035", "lcnet_035"),
    *("mobilenetv3_small_050", "mobilenetv4_conv_small_035", "ghostnet_050", "repghostnet_050", "starnet_s050"),
    *("ese_vovnet19b_slim_dw", "dla46x_c", "test_byobnet", "test_nfnet", "fasternet_t0"),
)
FAMILIES = (*AS_THEY_ARE, *NARROW, "vgg")


@functools.cache
def _made(family: str) -> nn.Module:
    torch.manual_seed(0)
    if family == "vgg":
        return vgg()
    if family in NARROW:
        return timm.create_model(family, num_classes=6, **NARROW[family])
    return build(family, 6, SIZE, stem="large")


def network(family: str) -> nn.Module:
    """Return a copy, which the test may change."""
    return copy.deepcopy(_made(family))
