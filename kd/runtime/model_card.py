"""A folder of a ``timm/...`` model card: ``config.json`` beside the weights, as a snapshot of the Hugging Face hub has.

Weights are named by their file, or by such a folder, which also says what network they are for and how its input was
normalised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")  # of the weights, in timm's order
NEUTRAL = ("num_classes", "in_chans", "img_size")  # arguments of a network to which timm's loader adapts the weights


class ModelCard(NamedTuple):
    """What ``config.json`` says about the weights beside it."""

    architecture: str  # timm's name of the network, without the tag of the weights
    mean: Sequence[float] | None  # of its input, in [0, 1], one number a channel
    std: Sequence[float] | None


def weights_in(path: Path) -> Path:
    """Return the file of weights: ``path`` itself, or the file in the folder of a model card.

    Raises:
        FileNotFoundError: there is no such file, or the folder lacks ``config.json`` or weights.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"there is no {path}")
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found or not (path / CONFIG).is_file():
        raise FileNotFoundError(
            f"{path} is a folder: name a file in it, or the folder of a model card of timm, which holds {CONFIG} and "
            f"{' or '.join(FILES)}"
        )
    return found[0]


def read_card(path: Path) -> ModelCard | None:
    """Return the card in a folder; None if ``path`` is a file, which has none.

    Raises:
        ValueError: ``config.json`` is not that of a network of timm, or its network has arguments of its own.
    """
    if not path.is_dir():
        return None
    place = path / CONFIG
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{place} is not a readable model card: {error}") from error
    content = content if isinstance(content, dict) else {}
    architecture = content.get("architecture")
    if not isinstance(architecture, str):
        raise ValueError(f"{place} is not the model card of a network of timm: it names no architecture")
    arguments = content.get("model_args") or {}
    own = sorted(set(arguments) - set(NEUTRAL)) if isinstance(arguments, dict) else ["model_args"]
    if own:
        raise ValueError(
            f"{place}: its {architecture} is built with {', '.join(own)}, another network than timm's under that name"
        )
    about = content.get("pretrained_cfg", content)  # old cards have one level
    about = about if isinstance(about, dict) else {}
    return ModelCard(architecture.partition(".")[0], *(_numbers(about.get(name), place) for name in ("mean", "std")))


def check_architecture(card: ModelCard | None, name: str | None, path: Path) -> None:
    """Refuse a card of another network of timm than ``name``, with or without the tag of its weights.

    Raises:
        ValueError: names both.
    """
    if card and name and card.architecture != name.partition(".")[0]:
        raise ValueError(f"{path} is the model card of {card.architecture}, and the network is {name}")


def _numbers(value: Any, place: Path) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(x, int | float) for x in value):
        raise ValueError(f"{place}: mean and std must be lists of numbers, got {value!r}")
    return [float(x) for x in value] * (3 if len(value) == 1 else 1)  # of weights for grey images
