"""Where a network with attention looks: the gate of each stage, as an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.attach import stages_of
from kd.attention.gate import SpatialGate
from kd.attention.verify import eval_mode


def gate_maps(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Run ``network`` once, in eval mode, and show how much of each place its spatial gates let through.

    Args:
        network: with or without attention, alone or inside other modules; its modes are what they were afterwards.
        image: [B, 3, H, W], what ``network`` takes, on its device.

    Returns:
        {"stage 1": [B, h, w], ...}, shallow to deep, float32. The number is the one that ``attention.stages`` says. The
        map of Vision Eagle is its scan, in (0, 1), at the size of the stage's input; of a layer behind a stage, see
        ``share``. Empty where nothing, or nothing that treats places differently, is attached.
    """
    gates = _gates(network)
    found: dict[str, Tensor] = {}
    hooks = [_listen(name, gate, found) for name, gate in gates]
    try:
        if gates:
            with eval_mode(network):
                network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _gates(network: nn.Module) -> list[tuple[str, SpatialGate]]:
    """Spatial gates by the stage that they stand in; the members of an ensemble are told apart by their paths."""
    shows = ("forward_intermediates", "feature_info")  # timm's blocks have a method of the second name
    backbones = {path: m for path, m in network.named_modules() if all(hasattr(m, name) for name in shows)}
    found = []
    for path, backbone in backbones.items():
        for number, (paths, _) in enumerate(stages_of(backbone)):
            gate = backbone.get_submodule(paths[0]) if paths else None
            if isinstance(gate, SpatialGate):
                found.append((f"{path} stage {number}" if len(backbones) > 1 else f"stage {number}", gate))
    return found


def _listen(name: str, module: SpatialGate, found: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def hear(gate: nn.Module, given: tuple, told: Tensor) -> None:
        found[name] = module.gate_map(given[0], told).float()

    return module.get_submodule(module.gate).register_forward_hook(hear)
