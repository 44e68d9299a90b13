"""Attach an attention variant to stages of a network: any convolutional network of timm, or one of ``kd.models``.

A variant is a callable ``(stage, channels) -> stage``: it gets the modules of one stage as a Sequential and returns
the module that replaces them. This covers a gate on a stage's output (squeeze-and-excitation) and Vision Eagle, which
runs a copy of the stage first and gates the stage's *input*; "a layer after a block" could not express the second.

A pretrained backbone gets no special treatment: where a paper's gate starts at one half, each stage with attention
starts by halving its map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from kd.attention.verify import SUPPORTED, AttachCheck, name_of

Attention = Callable[[nn.Module, int], nn.Module]
Stage = tuple[list[str], int]


def stages_of(network: nn.Module) -> list[Stage]:
    """Cut ``network`` at the boundaries that ``feature_info`` names: ``[(module paths in order, channels), ...]``.

    Stage 0 is everything up to the first boundary: the stem, and also the first stage if the network returns no map
    between them (ConvNeXt). Modules without parameters right after it (the max-pool of a ResNet's stem) belong to it.
    The modules after the last boundary (the head) belong to no stage. A boundary inside a block with several paths
    (Xception) makes that one module a stage. A stage with an unknown beginning or end has no paths (TResNet names no
    stem).
    """
    boundaries = boundaries_of(network)
    paths = [boundary["module"] for boundary in boundaries]
    units = _units(network, "", paths)
    stages, start = [], 0
    for path, boundary in zip(paths, boundaries, strict=True):
        end = next((i + 1 for i, unit in enumerate(units) if f"{path}.".startswith(f"{unit}.")), None)
        if start is None or end is None or end <= start:
            members = []
        else:
            members = units[start:end] if units[end - 1] == path else [path]
        if members and not stages and len(paths) > 1:
            while end < len(units) and units[end] not in paths and _is_bare(network.get_submodule(units[end])):
                members.append(units[end])
                end += 1
        stages.append((members, boundary["num_chs"]))
        start = end
    return stages


def boundaries_of(network: nn.Module) -> Sequence[Mapping]:
    """Return ``feature_info`` as a list of ``{"module", "num_chs", ...}``; empty if the network has none."""
    info = getattr(network, "feature_info", ())
    return info.get_dicts() if hasattr(info, "get_dicts") else info


def attach(
    network: nn.Module,
    attention: Attention | None,
    stages: Sequence[int] | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """Attach ``attention`` to the given stages of ``network``, in place, and return the network.

    Args:
        attention: the variant; None attaches nothing.
        stages: positions in ``stages_of(network)``; None means all but stage 0, the stem.
        image_size: pixels. ``attach`` runs one image of this size through the network before, during and after the
            change, and refuses a network that the change would break. None skips the check.

    Raises:
        ValueError: a stage that the network does not have or that cannot be replaced by one module; a network without
            maps [B, C, H, W] after its stages, or whose forward bypasses the attention.
    """
    if attention is None:
        return network
    chosen = _chosen_stages(network, stages)
    paths = [boundary["module"] for boundary in boundaries_of(network)]
    check = AttachCheck(network, image_size, {number: paths[number] for number in chosen}) if image_size else None
    for modules, _ in chosen.values():
        _join(network, modules)
    if check:
        check.after_cut({number: modules[0] for number, (modules, _) in chosen.items()})
    for modules, channels in chosen.values():
        _put(network, modules[0], attention(network.get_submodule(modules[0]), channels))
    if check:
        check.after_attach()
    return network


def _chosen_stages(network: nn.Module, stages: Sequence[int] | None) -> dict[int, Stage]:
    available = stages_of(network)
    chosen = range(1, len(available)) if stages is None else stages
    if not len(chosen):
        raise ValueError(
            f"attention.wrap: {name_of(network)} has no stage after its stem to attach attention to; use attention=none"
        )
    for number in chosen:
        if not 0 <= number < len(available):
            raise ValueError(f"attention.stages names stage {number}; {name_of(network)} has 0 to {len(available) - 1}")
        if not available[number][0]:
            known = [i for i, (paths, _) in enumerate(available) if paths and i]
            raise ValueError(
                f"attention.stages: {name_of(network)} does not say where its stage {number} begins or ends; "
                + (f"leave it out: attention.stages={known}" if known else f"it takes no attention.\n{SUPPORTED}")
            )
    return {number: available[number] for number in chosen}


def _units(module: nn.Module, prefix: str, boundaries: Sequence[str]) -> list[str]:
    """Return the children in order of execution, as timm registers them; a chain with a boundary inside is opened."""
    units = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inside = any(boundary.startswith(f"{path}.") for boundary in boundaries)
        chain = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        units += _units(child, f"{path}.", boundaries) if inside and chain else [path]
    return units


def _is_bare(module: nn.Module) -> bool:
    return not any(True for _ in module.parameters())


def _join(network: nn.Module, paths: Sequence[str]) -> None:
    """Replace the first of ``paths`` by the chain of all of them, and the others by identities."""
    if len(paths) > 1:
        _put(network, paths[0], nn.Sequential(*(network.get_submodule(path) for path in paths)))
        for path in paths[1:]:
            _put(network, path, nn.Identity())


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, module)
