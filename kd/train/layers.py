"""Fine-tuning by layers: rates that fall towards the image, and a classifier that learns first.

Both need timm's network inside what is trained: a ``TrainStep`` holds a ``Normalized``, which holds the network.
Everything around it (adapters of an objective, a projector) is new, so it learns at the full rate from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

Groups = list[dict[str, Any]]


def network_of_timm(learned: nn.Module) -> nn.Module | None:
    """Return timm's network in ``learned``, which may be wrapped; None for another network."""
    module: nn.Module | None = learned
    while module is not None and not (hasattr(module, "group_matcher") and hasattr(module, "get_classifier")):
        module = getattr(module, "network", None)
    return module


def refuse_unlayered(network: nn.Module, has_attention: bool, settings: Mapping[str, Any], where: str) -> None:
    """Refuse fine-tuning by layers of a network whose layers timm does not know.

    Args:
        settings: ``layer_decay`` and ``freeze_epochs`` of a recipe. where: the key of the recipe, ``train.teacher``.

    Raises:
        ValueError: names the setting.
    """
    for name, value in settings.items():
        if value and network_of_timm(network) is None:
            raise ValueError(f"{where}.{name}={value} is for networks of timm, whose layers and classifier have names")
        if value and has_attention:  # its layers are new, and stand among those that would learn slowly or not at all
            raise ValueError(f"{where}.{name}={value} is for networks as timm has them: use attention=none")


def groups_of(learned: nn.Module, weight_decay: float, layer_decay: float | None, freeze_epochs: int) -> Groups:
    """Return groups of an optimizer; as timm's optimizers have them, vectors are not decayed.

    With ``layer_decay`` a group has timm's ``lr_scale``: 1 for the classifier, ``layer_decay`` for the layer before it,
    and so on. Clark et al. 2020 (https://arxiv.org/abs/2003.10555) and BEiT (https://arxiv.org/abs/2106.08254) use such
    rates. Parameters outside timm's network have scale 1.

    With ``freeze_epochs`` no group holds both what learns from the start and what does not: torch's fused SGD takes no
    group of which a part has momentum.

    Raises:
        ValueError: there is no network of timm.
    """
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    network = network_of_timm(learned)
    if network is None:
        raise ValueError("layer_decay and freeze_epochs need a network of timm, whose layers have names")
    if layer_decay:
        kept = getattr(network, "no_weight_decay", set)()
        groups = param_groups_layer_decay(network, weight_decay, no_weight_decay_list=kept, layer_decay=layer_decay)
        inside = set(network.parameters())
        rest = [p for p in learned.parameters() if p.requires_grad and p not in inside]
        groups += [
            {"params": of_kind, "weight_decay": decay, "lr_scale": 1.0}
            for decay, of_kind in (
                (0.0, [p for p in rest if p.ndim <= 1]),
                (weight_decay, [p for p in rest if p.ndim > 1]),
            )
            if of_kind
        ]
    else:
        groups = param_groups_weight_decay(learned, weight_decay)
    return _split(groups, set(Trunk(learned).parameters), freeze_epochs) if freeze_epochs else groups


def _split(groups: Groups, frozen: set[nn.Parameter], epochs: int) -> Groups:
    """Split groups into what is frozen for some epochs, and what is not."""
    halves = [
        {**group, "params": [p for p in group["params"] if (p in frozen) == is_frozen], "frozen": epochs * is_frozen}
        for group in groups
        for is_frozen in (False, True)
    ]
    return [group for group in halves if group["params"]]


class Trunk:
    """The layers of timm's network in ``learned`` before its classifier, which can be frozen.

    Raises:
        ValueError: there is no network of timm, or it has no classifier.
    """

    def __init__(self, learned: nn.Module):
        network = network_of_timm(learned)
        found = network.get_classifier() if network is not None else None
        heads = found if isinstance(found, tuple | list) else [found]
        head = {module for one in heads if isinstance(one, nn.Module) for module in one.modules()}
        of_head = {p for module in head for p in module.parameters()}
        if not of_head:
            raise ValueError("freeze_epochs needs a network of timm with a classifier")
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in of_head]
        self.modules = [
            module for module in network.modules() if module not in head and head.isdisjoint(module.modules())
        ]
        self.is_frozen = False

    def freeze(self, frozen: bool) -> bool:
        """Freeze the trunk, its statistics of batch norm and its dropout too, or train it; return whether that is new.

        A call of ``train()`` on the network ends what this does to statistics and dropout, so freeze after it.
        """
        changed, self.is_frozen = frozen != self.is_frozen, frozen
        if changed:
            for p in self.parameters:
                p.requires_grad_(not frozen)
        if frozen:
            for module in self.modules:
                module.training = False
        return changed
