"""Weights from elsewhere: what is taken, under which names, and what is refused. Nothing in a file is ever executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from kd.interfaces import advise, first_line
from kd.models.normalized import check_statistics

HOLDS_WEIGHTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")  # the first there is counts
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # what DataParallel and torch.compile put before a name
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FEW = 4  # of what is wrong is told


def take(network: nn.Module, path: Path, told: bool = False) -> None:
    """Give a ``Normalized`` the weights of a file from elsewhere.

    Args:
        told: the statistics of its input are said elsewhere, and those of the file do not count. Else it is advised
            which count where the file has none.

    Raises:
        FileNotFoundError: no such file. ValueError: not a checkpoint, one of another network, one whose weights are
            not finite or whose statistics pixels in [0, 1] cannot have: what differs, and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder: name a file in it" if path.is_dir() else f"there is no {path}")
    if hasattr(network.network, "read"):  # a network that is itself a file
        network.network.read(path)
        return _check_finite(dict(network.network.named_parameters()), path)  # a mask in it may be infinite
    if path.suffix == ".pt2":
        raise ValueError(f"{path} is a program, not weights: say teacher=exported teacher.checkpoint={path}")
    brought = load_weights(network, path)
    _check_finite(network.network.state_dict(), path)
    if told:
        return None
    mean, std = (getattr(network, name).flatten().tolist() for name in ("mean", "std"))
    if not brought:
        advise(
            f"{path.name} does not say how its input was normalised: the statistics of this data count, mean "
            f"{_rounded(mean)} and std {_rounded(std)}. If it was trained with others, say teacher.mean and teacher.std"
        )
        return None
    try:
        return check_statistics(mean, std)
    except ValueError as error:
        raise ValueError(
            f"{path.name} brings statistics of its input: {error}, as teacher.mean, teacher.std"
        ) from error


def load_weights(network: nn.Module, path: Path) -> bool:
    """Load a .safetensors or a torch file (weights only) into a ``Normalized``; half and double become single.

    Names may stand with or without the leading ``network.``, or behind ``module.`` as DataParallel writes them; a file
    without statistics of the input leaves those of the data in place.

    Returns:
        Whether the file brought statistics of the input.

    Raises:
        ValueError: not a checkpoint, or one of another network: what differs.
    """
    state = {WRAPPERS.sub("", name): value for name, value in _read(path).items() if name != "n_averaged"}
    if not any(name.startswith("network.") for name in state):
        state = {f"network.{name}": value for name, value in state.items()}
    own = network.state_dict()
    brought = bool({"mean", "std"} & set(state))
    state = {"mean": own["mean"], "std": own["std"], **state}
    _check_same(own, state, path)
    network.load_state_dict(state)
    return brought


def look_at(path: Path) -> None:
    """Refuse a file that no network can take, before there is one.

    Raises:
        ValueError: not a checkpoint, or one with numbers that are not finite.
    """
    _check_finite(_read(path), path)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    if not path.stat().st_size:
        raise ValueError(f"{path} is not a readable .safetensors or torch file: it is empty")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = first_line(error).partition(". ")[0]  # torch goes on to advise what is unsafe
        code = re.search(r"GLOBAL (\S+)", str(error))
        held = f"it holds {code[1]}, which is code and was not run" if code else said
        raise ValueError(
            f"{path} is not a readable .safetensors or weights-only torch file: {held}\n"
            "Whatever else than tensors a checkpoint holds is not opened: where it comes from, save the network's "
            "state_dict() alone, torch.save(network.state_dict(), 'teacher.pt')."
        ) from error
    if isinstance(state, Mapping):
        found = [name for name in HOLDS_WEIGHTS if isinstance(state.get(name), Mapping)]
        if len(found) > 1:
            advise(f"{path.name}: the weights under {found[0]} are taken; for those under {found[1]} save them alone")
        state = state[found[0]] if found else state
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{path} holds no state dict: tensors by name, alone or under {' or '.join(HOLDS_WEIGHTS)}")
    return dict(state)


def _check_same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors of other names, shapes or kinds."""
    wrong = [f"{name} is missing" for name in sorted(set(own) - set(state))]
    wrong += [f"{name} is not known" for name in sorted(set(state) - set(own))]
    shapes = {
        name: (tuple(state[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    }
    # what differs in its first dimension alone feeds no other layer: it is the classifier
    ends = {(theirs[:1], ours[:1]) if theirs[1:] == ours[1:] else None for theirs, ours in shapes.values()}
    if not wrong and len(ends) == 1 and None not in ends:
        (((theirs,), (ours,)),) = ends
        raise ValueError(
            f"{path.name} knows other classes: its classifier has {theirs} classes, the data has {ours} "
            f"({_listed(list(shapes))})"
        )
    wrong += [f"{name} is {theirs} and should be {ours}" for name, (theirs, ours) in shapes.items()]
    if wrong:
        raise ValueError(f"{path.name} holds the weights of another network: {_listed(wrong)}")
    odd = [
        f"{name} is {'quantised' if value.is_quantized else value.dtype if value.layout == torch.strided else 'sparse'}"
        for name, value in state.items()
        if own[name].is_floating_point() and (value.dtype not in FLOATS or value.layout != torch.strided)
    ]
    odd += [f"{name} has a shape and no numbers" for name, value in state.items() if value.is_meta]
    if odd:
        raise ValueError(f"{path.name} holds something else than floating-point weights: {_listed(odd)}")


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are NaN or infinite."""
    counts = {name: int((~value.isfinite()).sum()) for name, value in tensors.items()}
    bad = [f"{name} ({count} of {tensors[name].numel()})" for name, count in counts.items() if count]
    if bad:
        raise ValueError(
            f"{path.name} holds numbers that are NaN or infinite, in {len(bad)} of {len(tensors)} tensors: "
            f"{_listed(bad)}. The training that wrote it diverged, or the file is damaged."
        )


def _listed(what: list[str]) -> str:
    """The first few of what begins with the name of a tensor, as its file names it."""
    few = "; ".join(text.removeprefix("network.") for text in what[:FEW])
    return few + (f"; and {len(what) - FEW} more" if len(what) > FEW else "")


def _rounded(values: list[float]) -> str:
    return "[" + ",".join(f"{value:.3g}" for value in values) + "]"
