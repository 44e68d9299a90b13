"""Any attention layer of timm that keeps the shape of a map, after a stage; a yaml option names the layer.

The layers are timm's own (``timm.layers.create_attn``); the first line of each option names the paper. Of the layers
of timm 1.0.31, these have no option here:

- ``sk, splat, lambda, halo, bottleneck`` replace a convolution, the latter two at one fixed map size;
- ``bat`` needs maps whose sides are multiples of its block;
- ``ge`` with parameters or an MLP cannot be built since timm 1.0.21; the option is the form without them,
  GE-theta-minus;
- ``ecam, scoord, ela, strip`` are experiments of timm without a paper, or differ from their paper;
- ``coord`` has a file of its own, as published.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from timm.layers import create_attn, get_attn
from torch import nn

from kd.attention.gate import Gated, SpatiallyGated


def timm_layer(stage: nn.Module, channels: int, layer: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return ``stage`` with a layer of timm after it; for a layer without a spatial gate, which has no map to show.

    Args:
        layer: its name in ``timm.layers.create_attn``.
        settings: arguments of the layer's constructor. Those that the yaml does not set keep timm's defaults; you set
            one with ``+attention.wrap.settings.rd_divisor=1``.

    Raises:
        ValueError: a layer that timm does not know, or a setting that the layer does not take.
    """
    return Gated(stage, build_layer(layer, channels, settings))


def timm_spatial_gate(stage: nn.Module, channels: int, layer: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return the same for a gate that treats places differently; ``kd.attention.maps`` shows its map."""
    return SpatiallyGated(stage, build_layer(layer, channels, settings))


def build_layer(layer: str, channels: int, settings: Mapping[str, Any]) -> nn.Module:
    """Build the layer, see ``timm_layer``."""
    try:
        known = get_attn(layer)
    except AssertionError:
        known = None
    if known is None:
        raise ValueError(f"attention.wrap.layer: timm has no attention layer {layer!r}")
    accepted = settings_of(layer)
    if unknown := sorted(set(settings) - set(accepted)):
        raise ValueError(f"attention.wrap.settings.{unknown[0]}: timm's {layer} takes {', '.join(accepted)}")
    return create_attn(layer, channels, **settings)


def settings_of(layer: str) -> list[str]:
    """Return the parameters of the layer's constructor, without the channels and torch's device and dtype."""
    set_by_us = ("channels", "in_channels", "device", "dtype")
    parameters = inspect.signature(get_attn(layer)).parameters.values()
    return [p.name for p in parameters if p.name not in set_by_us and p.kind is not inspect.Parameter.VAR_KEYWORD]
