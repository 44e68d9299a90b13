"""Attention maps: how much each spatial gate of a network lets through at each place of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.attach import stages_of
from kd.attention.gate import SpatialGate
from kd.attention.verify import eval_mode


def gate_maps(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Run ``network`` once, in eval mode, and return how much of each place its spatial gates let through.

    Args:
        network: with or without attention, alone or inside other modules; its train and eval modes are restored.
        image: [B, 3, H, W], an input of ``network``, on its device.

    Returns:
        {"stage 1": [B, h, w], ...}, shallow to deep, float32, with the stage numbers of ``attention.stages``. The map
        of Vision Eagle is its scan, in (0, 1), at the size of the stage's input; the map of a layer after a stage is
        ``rms_ratio``. Empty if no attached layer treats places differently.
    """
    gates = _gates(network)
    maps: dict[str, Tensor] = {}
    hooks = [_record_map(name, gate, maps) for name, gate in gates]
    try:
        if gates:
            with eval_mode(network):
                network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def _gates(network: nn.Module) -> list[tuple[str, SpatialGate]]:
    """Return the spatial gates with the names of their stages; members of an ensemble differ by their paths."""
    shows = ("forward_intermediates", "feature_info")  # timm's blocks have a method of the second name
    backbones = {path: m for path, m in network.named_modules() if all(hasattr(m, name) for name in shows)}
    gates = []
    for path, backbone in backbones.items():
        for number, (paths, _) in enumerate(stages_of(backbone)):
            gate = backbone.get_submodule(paths[0]) if paths else None
            if isinstance(gate, SpatialGate):
                gates.append((f"{path} stage {number}" if len(backbones) > 1 else f"stage {number}", gate))
    return gates


def _record_map(name: str, module: SpatialGate, maps: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def record(gate: nn.Module, inputs: tuple, output: Tensor) -> None:
        maps[name] = module.gate_map(inputs[0], output).float()

    return module.get_submodule(module.gate).register_forward_hook(record)
