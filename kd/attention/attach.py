"""Attach an attention variant to the stages of a network: of any convolutional one of timm, and of our own.

A variant is a callable ``(stage, channels) -> stage``: it gets the modules of one stage as a Sequential and returns
what shall stand in their place. That says both a gate on a stage's output (squeeze-and-excitation) and Vision Eagle,
which looks at the stage first and gates its *input*; "a layer after a block" cannot say the second.

Nothing special is done about a pretrained backbone: where a paper's gate starts at one half, the network starts with
halved maps, once a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from kd.attention.verify import TAKE_IT, AttachCheck, name_of

Attention = Callable[[nn.Module, int], nn.Module]
Stage = tuple[list[str], int]


def stages_of(network: nn.Module) -> list[Stage]:
    """Cut ``network`` at the boundaries that ``feature_info`` names: ``[(module paths in order, channels), ...]``.

    Stage 0 is everything up to the first boundary: the stem, and the first stage with it where no map is shown in
    between (ConvNeXt). Modules without parameters right behind it (the max-pool of a ResNet's stem) belong to it. What
    follows the last boundary (the head) belongs to none. A boundary inside a block of several paths (Xception) makes a
    stage of that one module. A stage that begins or ends nobody knows where (TResNet names no stem) has no paths.
    """
    boundaries = boundaries_of(network)
    paths = [boundary["module"] for boundary in boundaries]
    units = _units(network, "", paths)
    stages, start = [], 0
    for path, boundary in zip(paths, boundaries, strict=True):
        end = next((i + 1 for i, unit in enumerate(units) if f"{path}.".startswith(f"{unit}.")), None)
        if start is None or end is None or end <= start:
            found = []
        else:
            found = units[start:end] if units[end - 1] == path else [path]
        if found and not stages and len(paths) > 1:
            while end < len(units) and units[end] not in paths and _is_bare(network.get_submodule(units[end])):
                found.append(units[end])
                end += 1
        stages.append((found, boundary["num_chs"]))
        start = end
    return stages


def boundaries_of(network: nn.Module) -> Sequence[Mapping]:
    """``feature_info`` as a list of ``{"module", "num_chs", ...}``; empty where the network has none."""
    info = getattr(network, "feature_info", ())
    return info.get_dicts() if hasattr(info, "get_dicts") else info


def attach(
    network: nn.Module,
    attention: Attention | None,
    stages: Sequence[int] | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """Put ``attention`` on the given stages of ``network``, in place, and return it.

    Args:
        attention: the variant, or None for none.
        stages: positions in ``stages_of(network)``; None means all but the first, 0, which is the stem.
        image_size: pixels; the network is run with and without attention, and refused where it would not be what it
            was. None: it is not run.

    Raises:
        ValueError: a stage that the network does not have, or that cannot be cut out of it; a network that shows no
            maps [B, C, H, W] where the attention would stand, or whose forward goes past it.
    """
    if attention is None:
        return network
    places = _places(network, stages)
    paths = [boundary["module"] for boundary in boundaries_of(network)]
    trial = AttachCheck(network, image_size, {number: paths[number] for number in places}) if image_size else None
    for modules, _ in places.values():
        _join(network, modules)
    if trial:
        trial.cut({number: modules[0] for number, (modules, _) in places.items()})
    for modules, channels in places.values():
        _put(network, modules[0], attention(network.get_submodule(modules[0]), channels))
    if trial:
        trial.attached()
    return network


def _places(network: nn.Module, stages: Sequence[int] | None) -> dict[int, Stage]:
    found = stages_of(network)
    chosen = range(1, len(found)) if stages is None else stages
    if not len(chosen):
        raise ValueError(f"attention.wrap: {name_of(network)} has no stage behind its stem to stand on: attention=none")
    for number in chosen:
        if not 0 <= number < len(found):
            raise ValueError(f"attention.stages names stage {number}; {name_of(network)} has 0 to {len(found) - 1}")
        if not found[number][0]:
            known = [i for i, (paths, _) in enumerate(found) if paths and i]
            raise ValueError(
                f"attention.stages: {name_of(network)} does not say where its stage {number} begins or ends; "
                + (f"leave it out: attention.stages={known}" if known else f"it takes none.\n{TAKE_IT}")
            )
    return {number: found[number] for number in chosen}


def _units(module: nn.Module, prefix: str, boundaries: Sequence[str]) -> list[str]:
    """Children in order of execution (timm registers them so), opened where a boundary lies inside a chain of them."""
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
    """Let the first of ``paths`` do what all of them did."""
    if len(paths) > 1:
        _put(network, paths[0], nn.Sequential(*(network.get_submodule(path) for path in paths)))
        for path in paths[1:]:
            _put(network, path, nn.Identity())


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, module)
