"""Any attention layer of timm that keeps a map's shape, behind a stage; an option in yaml names it and sets it.

The layers are timm's own (``timm.layers.create_attn``), each with its paper in the first line of its option. Of what
``create_attn`` knows (timm 1.0.31) these have no option here:
``sk, splat, lambda, halo, bottleneck`` stand in a convolution's place, the latter two at one fixed map size;
``bat`` wants maps whose sides are multiples of its block;
``ge`` with parameters or an MLP cannot be built since timm 1.0.21, and stands here without them, GE-theta-minus;
``ecam, scoord, ela, strip`` are experiments of timm without a paper, or not as their paper has them;
``coord`` is in a file of its own, as published.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from timm.layers import create_attn, get_attn
from torch import nn

from kd.attention.gate import Gated, SpatiallyGated


def timm_layer(stage: nn.Module, channels: int, layer: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return ``stage`` with a layer behind it that treats all places alike, or that is no gate: no map to show.

    Args:
        layer: as ``timm.layers.create_attn`` calls it.
        settings: of the layer's constructor. Those that stand in no yaml keep timm's defaults and can be set too:
            ``+attention.wrap.settings.rd_divisor=1``.

    Raises:
        ValueError: a layer that timm does not know, or a setting that the layer does not take.
    """
    return Gated(stage, build_layer(layer, channels, settings))


def timm_spatial_gate(stage: nn.Module, channels: int, layer: str, settings: Mapping[str, Any]) -> nn.Module:
    """``timm_layer`` for a gate that treats places differently: ``kd.attention.maps`` shows it."""
    return SpatiallyGated(stage, build_layer(layer, channels, settings))


def build_layer(layer: str, channels: int, settings: Mapping[str, Any]) -> nn.Module:
    """See ``timm_layer``."""
    try:
        known = get_attn(layer)
    except AssertionError:
        known = None
    if known is None:
        raise ValueError(f"attention.wrap.layer: timm has no attention layer {layer!r}")
    takes = settings_of(layer)
    if unknown := sorted(set(settings) - set(takes)):
        raise ValueError(f"attention.wrap.settings.{unknown[0]}: timm's {layer} takes {', '.join(takes)}")
    return create_attn(layer, channels, **settings)


def settings_of(layer: str) -> list[str]:
    """What the constructor of timm's layer takes, but for the channels that it is made for."""
    given = ("channels", "in_channels", "device", "dtype")
    parameters = inspect.signature(get_attn(layer)).parameters.values()
    return [p.name for p in parameters if p.name not in given and p.kind is not inspect.Parameter.VAR_KEYWORD]
