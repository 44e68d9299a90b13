"""Weights from elsewhere: what is taken, under which names, and what is refused. Nothing in a file is ever executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from kd.models.checkpoint_prefix import beside, candidates, in_groups, places_of, plain_names
from kd.models.exported import kind_of
from kd.models.normalized import check_statistics
from kd.runtime.errors import first_line
from kd.runtime.text import first_few
from kd.runtime.user_warnings import warn_user

HOLDS_WEIGHTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")  # the first there is counts
BESIDE = (  # what trainers keep beside the weights; nothing of it is made, see Unmade
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"pathlib.{local}{name}Path" for local in ("", "_local.") for name in ("Posix", "Windows")),
)
STATISTICS = {"mean", "std"}
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OURS = "network."  # what a ``Normalized`` puts before the names of the network inside
COUNTS = ".num_batches_tracked"  # of batch norm, which old torch did not write
SETTING = "teacher.checkpoint_prefix"
FEW = 4  # of what is wrong is told


class StubObject:
    """Stands for an object of a checkpoint: takes what that is made of, keeps nothing, runs nothing."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass


def load_external(network: nn.Module, path: Path, told: bool = False, prefix: str | None = None) -> None:
    """Give a ``Normalized`` the weights of a file from elsewhere.

    Args:
        prefix: see ``load_weights``.
        told: the statistics of its input are said elsewhere, and those of the file do not count. Else it is advised
            which count where the file has none.

    Raises:
        FileNotFoundError: no such file. ValueError: not a checkpoint, one of another network, one whose weights are
            not finite or whose statistics pixels in [0, 1] cannot have: what differs, and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder: name a file in it" if path.is_dir() else f"there is no {path}")
    if hasattr(network.network, "read"):  # a network that is itself a file
        if prefix is not None:
            raise ValueError(f"{SETTING} says which weights of a file count, and {path.name} is read as a program")
        network.network.read(path)
        return _check_finite(dict(network.network.named_parameters()), path)  # a mask in it may be infinite
    brought = load_weights(network, path, prefix)
    _check_finite(network.network.state_dict(), path)
    if told:
        return None
    mean, std = (getattr(network, name).flatten().tolist() for name in ("mean", "std"))
    if not brought:
        warn_user(
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


def load_weights(network: nn.Module, path: Path, prefix: str | None = None) -> bool:
    """Load a .safetensors or a torch file (weights only) into a ``Normalized``; half and double become single.

    The network is found behind whatever words its names stand: none, ``network.``, ``module.`` of DataParallel,
    ``model.`` of a Lightning module, several of them. What stands beside it there (a criterion, metrics, another
    network) is left out, and named. What a file has not of the statistics of the input and of batch norm's counts of
    batches, which old torch did not write, stays as it is.

    Args:
        prefix: what the names of the network begin with, or the entry of the file that holds them; None finds out.

    Returns:
        Whether the file brought statistics of the input.

    Raises:
        ValueError: not a checkpoint, one of another network: what differs; or one of several that fit.
    """
    own = network.state_dict()
    kept = {n: value for n, value in own.items() if n in STATISTICS or n.endswith(COUNTS)}
    state = _part_of(own, *_read(path, prefix), path)
    _check_same(own, {**kept, **state}, path)
    _check_kinds(own, state, path)
    network.load_state_dict({**kept, **state})
    return not STATISTICS.isdisjoint(state)


def check_checkpoint(network: nn.Module, path: Path, prefix: str | None = None) -> None:
    """Refuse a file that has not the weights of a ``Normalized``, before the number of classes is known.

    Raises:
        ValueError: not a checkpoint, one without this network, or one with numbers that are not finite.
    """
    own = network.state_dict()
    state = _part_of(own, *_read(path, prefix), path)
    kept = {n: value for n, value in own.items() if n in STATISTICS or n.endswith(COUNTS)}
    _check_same(own, {**kept, **{n: own.get(n, value) for n, value in state.items()}}, path)  # by name
    _check_kinds(own, state, path)
    _check_finite(state, path)


def _part_of(
    own: Mapping[str, Tensor], tensors: dict[str, Tensor], prefix: str | None, path: Path
) -> dict[str, Tensor]:
    """What the file has for the network, under the names of a ``Normalized``, and whatever else would belong into it.

    Raises:
        ValueError: two networks that fit, or no name that begins as it was said.
    """
    named = {name: value for name, value in tensors.items() if name.startswith(prefix or "")}
    if not named:
        raise ValueError(
            f"{SETTING}={(prefix or '').removesuffix('.')}: no name in {path.name} begins so; there are "
            f"{in_groups(list(tensors))}"
        )
    inner = {name.removeprefix(OURS): value for name, value in own.items() if name.startswith(OURS)}
    needed = {name: value for name, value in inner.items() if not name.endswith(COUNTS)}
    places = candidates(needed, named, prefix)
    place = places[0]
    if len(places) > 1:
        under = first_few((each or "no prefix" for each in places), 2 * FEW)
        how = " or ".join(f"{SETTING}={_typed(each)}" for each in places[:FEW])
        raise ValueError(
            f"{path.name} holds {len(places)} networks that fit, under {under}\nSay which one is meant: {how}"
        )
    state = {OURS + name: named[place + name] for name in inner if place + name in named}
    taken = {place + name for name in inner}
    if place.endswith(OURS):
        around = place.removesuffix(OURS)
        for name in STATISTICS:
            if around + name in named and named[around + name].shape == own[name].shape:
                state[name] = named[around + name]
                taken.add(around + name)
    rest = [name for name in named if name not in taken and name.rpartition(".")[2] != "n_averaged"]
    others = [other for other, count in places_of(needed, named).items() if count == len(needed)]
    aside = beside(inner, rest, place, others) if others else []
    if aside:
        under = f"under {place}" if place else "as they stand"
        warn_user(f"{path.name}: the network's weights are those {under}; left out: {in_groups(aside)}")
    unknown = {OURS + name.removeprefix(place): named[name] for name in rest if name not in set(aside)}
    return state | unknown


def _read(path: Path, prefix: str | None) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file by name, and what is left of ``prefix``; what kind of file it is, its content says."""
    if not path.stat().st_size:
        raise ValueError(f"{path} is not a readable .safetensors or torch file: it is empty")
    kind = kind_of(path)
    if kind == "program":
        raise ValueError(f"{path} is a program, not weights: say teacher=exported teacher.checkpoint={path}")
    if kind == "script":
        raise ValueError(
            f"{path} is a TorchScript archive, not weights, and was not run\nSave the state_dict() of the network that "
            "it was made of, torch.save(network.state_dict(), 'teacher.pt')."
        )
    try:
        with path.open("rb") as file:
            if file.read(9)[8:] == b"{":  # behind the length of its header
                return _state_in(safetensors.torch.load_file(path), path, prefix)
            file.seek(0)
            with torch.serialization.safe_globals([(StubObject, name) for name in BESIDE]):
                held = torch.load(file, map_location="cpu", weights_only=True)  # of a path it would read the suffix
    except Exception as error:
        said = first_line(error).partition(". ")[0]  # torch goes on to advise what is unsafe
        code = re.search(r"GLOBAL (\S+)", str(error))
        held = f"it holds {code[1]}, which is code and was not run" if code else said
        raise ValueError(
            f"{path} is not a readable .safetensors or weights-only torch file: {held}\n"
            "Whatever else than tensors a checkpoint holds is not opened: where it comes from, save the network's "
            "state_dict() alone, torch.save(network.state_dict(), 'teacher.pt')."
        ) from error
    return _state_in(held, path, prefix)


def _state_in(held: object, path: Path, prefix: str | None) -> tuple[dict[str, Tensor], str | None]:
    """The state dict that is ``held``, or the one that is among what it holds; of several that no trainer is known for,
    all, under the names of their entries. The prefix may begin with the name of an entry, which then counts."""
    prefix = f"{prefix.removesuffix('.')}." if prefix else prefix
    entries = held if isinstance(held, Mapping) else {}
    states = [name for name, value in entries.items() if _is_state(value)]
    asked = [name for name in states if prefix and prefix.startswith(f"{name}.")]
    known = [name for name in HOLDS_WEIGHTS if isinstance(entries.get(name), Mapping)]
    found = asked or known or states
    if asked:
        prefix = prefix.removeprefix(f"{asked[0]}.") or None
    elif len(known) > 1:
        warn_user(
            f"{path.name}: the weights under {found[0]} are taken; {SETTING}={found[1]} takes those under {found[1]}"
        )
    elif len(found) > 1:
        tensors = {f"{entry}.{name}": value for entry in found for name, value in entries[entry].items()}
        return plain_names(tensors), prefix
    state = entries[found[0]] if found else held
    if not _is_state(state):
        holds = f" (it holds {first_few((str(name)[:40] for name in entries), 2 * FEW)})" if entries else ""
        raise ValueError(f"{path} holds no state dict, tensors by name, neither alone nor as one of its entries{holds}")
    return plain_names(state), prefix


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _typed(prefix: str) -> str:
    """A prefix as a value of the command line; a number would be one."""
    word = prefix.removesuffix(".")
    return word if re.fullmatch(r"[A-Za-z_][\w.]*|", word) else f"'\"{word}\"'"


def _check_same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors of other names or shapes."""
    missing = [f"{name} is missing" for name in sorted(set(own) - set(state))]
    unknown = [f"{name} is not known" for name in sorted(set(state) - set(own))]
    half = FEW // 2  # of each, so that names which differ in one part are seen together
    wrong = missing[:half] + unknown[:half] + missing[half:] + unknown[half:]
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
        raise ValueError(f"{path.name} holds the weights of another network: {_listed(wrong)}{_renaming(own, state)}")


def _check_kinds(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are no plain floating-point numbers where the network has such."""
    odd = [
        f"{name} is {'quantised' if value.is_quantized else value.dtype if value.layout == torch.strided else 'sparse'}"
        for name, value in state.items()
        if own[name].is_floating_point() and (value.dtype not in FLOATS or value.layout != torch.strided)
    ]
    odd += [f"{name} has a shape and no numbers" for name, value in state.items() if value.is_meta]
    if odd:
        raise ValueError(f"{path.name} holds something else than floating-point weights: {_listed(odd)}")


def _renaming(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What to rename where all that is missing is there under another name: a head that a wrapper calls its own way."""
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    pairs = {
        name: [n for n in unknown if n.split(".")[-1] == name.split(".")[-1] and state[n].shape == own[name].shape]
        for name in missing
    }
    if not missing or len(missing) != len(unknown) or any(len(found) != 1 for found in pairs.values()):
        return ""
    renamed = [f"{found[0]} to {name.removeprefix(OURS)}" for name, found in pairs.items()]
    return f"\nIf they are the same under other names, rename them in the file: {_listed(renamed)}"


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
    return first_few((text.removeprefix("network.") for text in what), FEW, "; ")


def _rounded(values: list[float]) -> str:
    return "[" + ",".join(f"{value:.3g}" for value in values) + "]"
