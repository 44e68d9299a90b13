"""Start from the weights in a file under timm's names; no code in the file is executed.

timm's loader makes a new classifier where the number of classes differs, adapts the first convolution and resamples
position embeddings. But it loads what fits: a file of another network would leave most of the network untrained without
an error. So the loader first runs on a copy of the file in which each tensor holds only its own number, for a network
with the file's classes. The numbers that arrive tell what was taken, whatever the loader renamed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from kd.models.normalized import Normalized, check_statistics
from kd.models.weights import COUNTS, STATISTICS, check_finite, check_same, read_part
from kd.runtime.errors import first_line
from kd.runtime.model_card import check_architecture, read_card, weights_in
from kd.runtime.text import first_few

FIRST = 4096.0  # number of the first tensor: larger than any initial weight, and exact in float32
MAX_NAMED = 4  # tensors in a message


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from."""

    overlay: dict[str, Any]  # timm's ``pretrained_cfg_overlay``
    taken: int  # tensors of the file in the network, with those of the classifier
    classifier: tuple[str, ...]  # its tensors, by timm's names
    classes: int  # of the file; 0: it holds no classifier
    left: tuple[str, ...]  # tensors of the file for which the network has no place
    file: str  # its name

    @property
    def arguments(self) -> dict[str, int]:
        """Arguments of the network: of weights for grey images, timm would make a network for grey images."""
        return _colours(self.overlay)

    def describe(self, num_classes: int) -> str:
        """Say in one line what a network with ``num_classes`` took from the file."""
        is_new = num_classes != self.classes
        old = len(self.classifier) if self.classes and is_new else 0
        parts = [f"{self.taken - old} tensors from {self.file}"]
        if is_new:
            parts.append(f"new: {', '.join(self.classifier)} ({num_classes} classes)")
        if self.left:
            parts.append(f"left out: {first_few(self.left, MAX_NAMED)}")
        return "; ".join(parts)


def read_pretrained(name: str, path: Path) -> Pretrained:
    """Read the weights of timm's network ``name`` from a .safetensors or torch file, or the folder of a model card.

    The global random state stays as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, one of another network, or one with weights that are not finite.
    """
    file, card = weights_in(path), read_card(path)
    check_architecture(card, name, path)
    with torch.device("meta"):  # names and shapes
        network = timm.create_model(name)
    normalized = Normalized(network, [0.0] * 3, [1.0] * 3)
    state = read_part(normalized, file)
    check_finite(state, file)
    statistics = {key: state.pop(key).flatten().tolist() for key in sorted(STATISTICS & state.keys())}
    statistics |= {key: list(value) for key, value in (("mean", card.mean), ("std", card.std)) if value} if card else {}
    if len(statistics) == 2:
        check_statistics(statistics["mean"], statistics["std"])
    state = {key.removeprefix("network."): value.detach().clone() for key, value in state.items()}
    cfg, own = network.pretrained_cfg, network.state_dict()
    heads = _as_tuple(cfg.get("classifier"))
    classifier = tuple(n for n in own if n.rpartition(".")[0] in heads)
    weight = next((state[f"{head}.weight"] for head in heads if f"{head}.weight" in state), None)
    classes = len(weight) if weight is not None and weight.ndim else 0
    overlay = {"num_classes": classes, "label_offset": 0, **statistics, **_channels(cfg, own, state)}
    taken, left = _try(name, own, state, overlay, set(classifier), file)
    return Pretrained({**overlay, "state_dict": state}, taken, classifier, classes, left, file.name)


def forget_file(network: nn.Module) -> None:
    """Remove the file's tensors from the settings that timm keeps with a network, which copies would copy."""
    network.pretrained_cfg["state_dict"] = None


def shrink_new_classifier(network: nn.Module) -> None:
    """Scale the weights of a new classifier down to those of a linear layer of torch, if timm made them larger.

    timm draws EfficientNet's for about a thousand classes; for six they are 15 times those of torch. With the weights
    of tf_efficientnet_lite0 the mean loss of a first epoch was 4.8, and such gradients spoil what the network knows.
    """
    found = network.get_classifier() if hasattr(network, "get_classifier") else None
    for layer in found if isinstance(found, tuple | list) else [found]:
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            usual = (3 * weight[0].numel()) ** -0.5  # standard deviation of torch's, which are uniform
            weight.data *= min(1.0, usual / max(weight.std().item(), usual))


@contextmanager
def quiet_timm() -> Iterator[None]:
    """Inside the block timm's loader does not log what ``describe`` says better."""
    log = logging.getLogger("timm.models._builder")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _try(
    name: str,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    overlay: Mapping[str, Any],
    classifier: set[str],
    file: Path,
) -> tuple[int, tuple[str, ...]]:
    """Return how many tensors of the file timm's loader takes, and the names of those that it leaves out.

    Raises:
        ValueError: the file is of another network; names the first tensors that differ.
    """
    numbered = {
        key: torch.full_like(value, FIRST + number, dtype=torch.float32) if value.is_floating_point() else value.clone()
        for number, (key, value) in enumerate(state.items())
    }
    names, classes = list(state), overlay["num_classes"]

    def refuse(cause: str) -> None:
        same = {n: value for n, value in own.items() if n.endswith(COUNTS) or n in classifier}
        theirs = {n: value for n, value in state.items() if n not in classifier}
        check_same(*({f"network.{n}": value for n, value in each.items()} for each in (own, {**same, **theirs})), file)
        raise ValueError(f"{file.name} holds the weights of another network: {cause}")

    try:
        with torch.random.fork_rng(), quiet_timm():
            network = timm.create_model(
                name,
                pretrained=True,
                num_classes=classes,
                **_colours(overlay),
                pretrained_cfg_overlay={**overlay, "state_dict": numbered},
            )
    except Exception as error:
        refuse(first_line(error))
    adapted = {f"{conv}.weight" for conv in _as_tuple(network.pretrained_cfg.get("first_conv"))} & set(names)
    used, missing = {names.index(n) for n in adapted}, []
    for key, value in network.state_dict().items():
        if not value.is_floating_point() or key in adapted:
            continue
        found = _numbers_in(value)
        used |= found
        if not found:
            missing.append(f"{key} is missing")
    if missing:
        refuse(first_few(missing, MAX_NAMED, "; "))
    left = [n for number, n in enumerate(names) if state[n].is_floating_point() and number not in used]
    return len(names) - len(left), tuple(left)


def _numbers_in(value: Tensor) -> set[int]:
    """Return the numbers of the file's tensors that arrived in this one; empty for initial weights."""
    least, most = value.min().item(), value.max().item()
    if most < FIRST - 0.5:
        return set()
    values = [most] if most - least < 0.5 else value.round().unique().tolist()
    return {round(one - FIRST) for one in values if one > FIRST - 0.5}


def _channels(cfg: Mapping[str, Any], own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return timm's ``input_size`` with the colour channels of the file, if they differ from this network's."""
    for key in (f"{conv}.weight" for conv in _as_tuple(cfg.get("first_conv"))):
        shapes = [each[key].shape for each in (own, state) if key in each and each[key].ndim == 4]
        if len(shapes) == 2 and shapes[0][1] == 3 != shapes[1][1]:
            return {"input_size": (shapes[1][1], *cfg["input_size"][1:])}
    return {}


def _colours(overlay: Mapping[str, Any]) -> dict[str, int]:
    """Return timm's ``in_chans`` where ``_channels`` found another number in the file."""
    return {"in_chans": 3} if "input_size" in overlay else {}


def _as_tuple(value: Any) -> tuple[str, ...]:
    return () if not value else (value,) if isinstance(value, str) else tuple(value)
