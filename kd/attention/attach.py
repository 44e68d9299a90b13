"""Attach an attention variant to the stages of a convolutional timm network.

A variant is a callable ``(stage, channels) -> stage``: it gets the modules of one stage as a Sequential and returns
what shall stand in their place. That says both a gate on a stage's output (squeeze-and-excitation) and Vision Eagle,
which looks at the stage first and gates its *input*; "a layer after a block" cannot say the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

Attention = Callable[[nn.Module, int], nn.Module]


def stages_of(network: nn.Module) -> list[tuple[list[str], int]]:
    """Cut ``network`` at the boundaries that ``feature_info`` names: ``[(module paths in order, channels), ...]``.

    Stage 0 is everything up to the first boundary. Modules without parameters right behind a boundary (the max-pool
    of a ResNet's stem) belong to the stage before it. What follows the last boundary (the head) belongs to none.
    """
    info = network.feature_info
    boundaries = info.get_dicts() if hasattr(info, "get_dicts") else info
    paths = [b["module"] for b in boundaries]
    units = _units(network, "", paths)
    stages, start = [], 0
    for boundary, path in zip(boundaries, paths, strict=True):
        end = units.index(path) + 1
        while path != paths[-1] and units[end] not in paths and _is_bare(network.get_submodule(units[end])):
            end += 1
        stages.append((units[start:end], boundary["num_chs"]))
        start = end
    return stages


def attach(network: nn.Module, attention: Attention | None, stages: Sequence[int] | None = None) -> nn.Module:
    """Put ``attention`` on the given stages of ``network``, in place, and return it.

    Args:
        attention: the variant, or None for none.
        stages: positions in ``stages_of(network)``, 0 is the stem; None means all but the stem.

    Raises:
        ValueError: a stage that the network does not have.
    """
    if attention is None:
        return network
    found = stages_of(network)
    chosen = range(1, len(found)) if stages is None else stages
    for number in chosen:
        if not 0 <= number < len(found):
            raise ValueError(
                f"attention.stages names stage {number}; {type(network).__name__} has 0 to {len(found) - 1}"
            )
        paths, channels = found[number]
        modules = [network.get_submodule(path) for path in paths]
        stage = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        _put(network, paths[0], attention(stage, channels))
        for path in paths[1:]:
            _put(network, path, nn.Identity())
    return network


def _units(module: nn.Module, prefix: str, boundaries: Sequence[str]) -> list[str]:
    """Children in order of execution (timm registers them so), opened where a boundary lies inside."""
    units = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inside = any(boundary.startswith(f"{path}.") for boundary in boundaries)
        units += _units(child, f"{path}.", boundaries) if inside else [path]
    return units


def _is_bare(module: nn.Module) -> bool:
    return not any(True for _ in module.parameters())


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, module)
