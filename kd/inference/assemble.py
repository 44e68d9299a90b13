"""Build the network that a description names, without Hydra and without its weights.

A description may come from somebody else, and a ``_target_`` names code. So only networks, attentions and methods of
kd itself are made, unless the caller trusts the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.attention.attach import attach
from kd.interfaces import Context
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.models.reclassed import PickClasses
from kd.models.resized import Resize
from kd.runtime.class_names import positions_of
from kd.runtime.errors import first_line
from kd.train.objective import Objective

ROOMS = ("kd.models", "kd.attention", "kd.methods")
NO_STATISTICS = ([0.0] * 3, [1.0] * 3)  # those of the weights replace them


def assemble(
    spec: Mapping[str, Any], classes: Sequence[str], image_size: int, trusted: bool = False
) -> Normalized | Ensemble:
    """Return a network with initial weights, in eval mode; the global random state stays as it is.

    Args:
        spec: ``{"network": {"_target_": ..., settings}}``, and where the network has them ``"attention": {"wrap",
            "stages"}``, ``"image_size"`` of its own, ``"classes"`` of its own, and ``"extended_by": {"objective",
            "teacher"}`` for a method that deploys more than the student. An ensemble: ``{"ensemble": [specs],
            "combine"}``.
        trusted: allow code outside kd.

    Raises:
        ValueError: the network cannot be built here; says why.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            if "ensemble" in spec:
                members = [_assemble_one(each, classes, image_size, trusted) for each in spec["ensemble"]]
                return Ensemble(members, spec["combine"]).eval()
            return _assemble_one(spec, classes, image_size, trusted).eval()
    except Exception as error:  # settings of a file may be anything
        raise ValueError(f"the network cannot be built: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return the first line of an error; of a missing setting also what is missing."""
    return f"{error} is missing" if isinstance(error, KeyError) else first_line(error)


def _assemble_one(spec: Mapping[str, Any], classes: Sequence[str], image_size: int, trusted: bool) -> Normalized:
    side, names = spec.get("image_size") or image_size, spec.get("classes")
    network = make(spec["network"], trusted, num_classes=len(names or classes), image_size=side)
    if not isinstance(network, nn.Module):
        raise ValueError("its settings name no network")
    if hasattr(network, "read"):
        raise ValueError("it is an exported program, whose file torch.export.load reads")
    if spec.get("attention"):
        attach(network, make(spec["attention"]["wrap"], trusted), spec["attention"]["stages"], None)
    resize = Resize(side) if spec.get("image_size") else None
    reclass = PickClasses(positions_of(classes, names, Path("its classes"))) if names else None
    whole = Normalized(network, *NO_STATISTICS, resize, reclass)
    if more := spec.get("extended_by"):
        teacher = _assemble_one(more["teacher"], classes, image_size, trusted).eval()
        whole = _extended(whole, teacher, more["objective"], image_size, trusted)
    return whole


def _extended(
    student: Normalized, teacher: nn.Module, terms: Mapping[str, Any], image_size: int, trusted: bool
) -> Normalized:
    """Return what a method deploys in place of the student."""
    objective = Objective(
        {name: make(each["term"], trusted) for name, each in terms.items()},
        {name: each["weight"] for name, each in terms.items()},
    )
    nothing = torch.zeros(0, dtype=torch.int64)

    def refuse(*_: Any) -> Any:
        raise ValueError("its method needs the data set of the training")

    return objective.deploy(objective.bind(Context(student, teacher, refuse, refuse, nothing, nothing, image_size)))


def make(node: Any, trusted: bool = False, **given: Any) -> Any:
    """Make the object of a config node, as Hydra would: plain values with ``_target_`` and ``_partial_``.

    A factory that reads weights or other files offers the same network without them as its attribute ``untrained``.

    Args:
        given: arguments that are not settings.

    Raises:
        ValueError: a target that is not kd's own, unless ``trusted``.
    """
    if isinstance(node, list | tuple):
        return [make(each, trusted) for each in node]
    if not isinstance(node, Mapping):
        return node
    values = {name: make(value, trusted) for name, value in node.items() if name not in SPECIAL}
    if "_target_" not in node:
        return values
    target = find_target(node["_target_"], trusted)
    target = getattr(target, "untrained", target)
    whole = {**values, **given}
    return partial(target, **whole) if node.get("_partial_") else target(**whole)


SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_")


def find_target(name: str, trusted: bool = False) -> Callable[..., Any]:
    """Return the class or function of a dotted name.

    Raises:
        ValueError: there is none, or it is not kd's own and not ``trusted``.
    """
    room, _, attribute = str(name).rpartition(".")
    is_ours = any(room.startswith(f"{each}.") for each in ROOMS)
    if not is_ours and not trusted:
        raise ValueError(
            f"{name} is code outside kd, and making it may run anything. If you trust the author of this file as you "
            "would with Python code, say trusted=True (--trusted)"
        )
    try:
        found = getattr(import_module(room), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {name}: {first_line(error)}") from error
    if not callable(found) or (is_ours and not str(getattr(found, "__module__", "")).startswith(room)):
        raise ValueError(f"{name} is not a network, an attention or a method of kd")
    return found
