"""``config.json`` and ``model.safetensors``: the two files by which libraries of the Hugging Face hub know a network.

A network of timm that kd built as timm would is written for timm: ``timm.create_model("local-dir:FOLDER",
pretrained=True)`` loads the folder, and images must be normalised, as for any network of timm. Any other network is
written for kd: ``config.json`` holds its description. ``kd.load`` reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import timm
import torch
from torch import nn

from kd.evaluation.cost import state_of
from kd.inference.description import Description
from kd.inference.model import Model
from kd.inference.safetensors_file import with_metadata
from kd.models.backbone import SMALL_IMAGE, adapt_stem
from kd.models.normalized import Normalized
from kd.models.pretrained import quiet_timm
from kd.models.timm_size import fit_to_size
from kd.runtime.errors import first_line
from kd.store.files import write_bytes, write_text

CONFIG, WEIGHTS = "config.json", "model.safetensors"
BUILD = "kd.models.backbone.build"  # the factory of timm's networks
CROP_MODES = {"crop": "center", "pad": "border", "squash": "squash"}  # our word for a shape -> timm's
TOLERANCE = 1e-5  # of logits, relative to the largest


class HubFiles(NamedTuple):
    """The two files, and who can load them."""

    paths: list[Path]
    layout: str  # "timm" or "kd"
    why_not_timm: str  # a clause, for a network of timm that timm cannot build; "" otherwise


def write_hub_files(deploy: Path, model: Model) -> HubFiles:
    """Write ``config.json`` and ``model.safetensors`` into a folder.

    A folder for timm is loaded by timm, and kept only if its logits are those of ``model``.
    """
    description = replace(model.description, layout="kd", mean=None, std=None)
    reason = ""
    if _is_of_timm(description):
        try:
            _write_for_timm(deploy, model, description)
            return HubFiles([deploy / CONFIG, deploy / WEIGHTS], "timm", "")
        except ValueError as error:
            reason = str(error)
    write_text(deploy / CONFIG, _json({"library": "kd", **description.to_dict()}))
    _write_weights(deploy / WEIGHTS, model.network, description.to_metadata())
    return HubFiles([deploy / CONFIG, deploy / WEIGHTS], "kd", reason)


def _is_of_timm(description: Description) -> bool:
    return description.network.get("network", {}).get("_target_") == BUILD


def _write_for_timm(deploy: Path, model: Model, description: Description) -> None:
    """Raise ValueError with the reason if timm cannot build this network."""
    arguments = _timm_arguments(description)
    network = model.network
    if not isinstance(network, Normalized) or network.resize is not None or network.reclass is not None:
        raise ValueError("it has layers of kd around it")
    mean, std = (getattr(network, name).flatten().tolist() for name in ("mean", "std"))
    described = replace(description, layout="timm", mean=tuple(mean), std=tuple(std))
    write_text(deploy / CONFIG, _json(_timm_config(network.network, described, arguments)))
    _write_weights(deploy / WEIGHTS, network.network, described.to_metadata())
    _check_in_timm(deploy, model)


def _timm_arguments(description: Description) -> dict[str, Any]:
    """Return the arguments besides the name with which timm builds the network.

    Raises:
        ValueError: timm cannot build it; says why.
    """
    spec = description.network
    if extra := [name for name in ("attention", "extended_by", "image_size", "classes") if spec.get(name)]:
        raise ValueError(f"kd added to it what timm does not have ({', '.join(extra)})")
    own = spec["network"]
    size, stem = description.image_size, own.get("stem", "auto")
    is_small = stem == "small" or (stem == "auto" and size <= SMALL_IMAGE)
    arguments, is_adapted = fit_to_size(own["name"], size, stem, is_small, adapt_stem, bool(own.get("pretrained")))
    if is_adapted:
        raise ValueError("kd changed its first layers for small images (stem=small), which no argument of timm does")
    return dict(arguments)


def _timm_config(network: nn.Module, description: Description, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what timm reads from ``config.json``, and under "kd" what kd knows besides."""
    size, count = description.image_size, len(description.classes)
    declared = network.pretrained_cfg or {}
    cfg = {
        "custom_load": False,
        "input_size": [3, size, size],
        "fixed_input_size": bool(declared.get("fixed_input_size")),
        "interpolation": "bilinear",
        "crop_pct": description.crop_pct,
        "crop_mode": CROP_MODES[description.fit],
        "mean": list(description.mean),
        "std": list(description.std),
        "num_classes": count,
        "pool_size": None,
        **{name: declared[name] for name in ("first_conv", "classifier") if declared.get(name)},
    }
    return {
        "architecture": description.network["network"]["name"].partition(".")[0],
        "num_classes": count,
        "num_features": network.num_features,
        "label_names": list(description.classes),
        **({"model_args": dict(arguments)} if arguments else {}),
        "pretrained_cfg": cfg,
        "kd": {name: value for name, value in description.to_dict().items() if name not in ("classes", "mean", "std")},
    }


def _check_in_timm(deploy: Path, model: Model) -> None:
    """Raise ValueError unless timm loads the folder and gives the logits of ``model``."""
    side = model.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with quiet_timm(), torch.inference_mode(), torch.random.fork_rng(devices=[]):
            loaded = timm.create_model(f"local-dir:{deploy}", pretrained=True).eval()
            found, wanted = loaded(model.network.prepare(images)), model(images)
    except Exception as error:  # of many kinds: a shape, an argument, a name of a tensor
        raise ValueError(f"timm does not load it: {first_line(error)}") from error
    if (found - wanted).abs().max() > TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise ValueError("timm builds another network under its name")


def _write_weights(path: Path, network: nn.Module, metadata: Mapping[str, str]) -> None:
    write_bytes(path, with_metadata(safetensors.torch.save(state_of(network)), metadata))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
