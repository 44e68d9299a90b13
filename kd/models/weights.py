"""Load weights from checkpoint files of other programs. No code in a file is ever executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from kd.models.checkpoint_prefix import beside, candidates, count_by_prefix, in_groups, plain_names
from kd.models.exported import kind_of
from kd.models.normalized import check_statistics
from kd.runtime.errors import first_line
from kd.runtime.text import first_few
from kd.runtime.user_warnings import warn_user

HOLDS_WEIGHTS = (
    "state_dict",
    "model",
    "model_state_dict",
    "state_dict_ema",
    "model_ema",
)  # the first that exists counts
BESIDE = (  # classes that trainers store beside the weights; loading creates a StubObject instead
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"pathlib.{local}{name}Path" for local in ("", "_local.") for name in ("Posix", "Windows")),
)
STATISTICS = {"mean", "std"}
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OURS = "network."  # the prefix of the inner network in a ``Normalized``
COUNTS = ".num_batches_tracked"  # of batch norm; old torch did not write it
SETTING = "teacher.checkpoint_prefix"
MAX_NAMED = 4  # tensors in a message
OTHER_CLASSES = (
    "\nIf the data's classes are among them, name all of them in a text file, one a line in the order of its outputs: "
    "teacher.classes=FILE"
)


class StubObject:
    """Placeholder for an object of a checkpoint: accepts its arguments, keeps nothing, runs nothing."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass


def load_external(network: nn.Module, path: Path, has_statistics: bool = False, prefix: str | None = None) -> None:
    """Load the weights of a checkpoint file of another program into a ``Normalized``.

    Args:
        has_statistics: the caller sets the mean and std of the input, so those of the file do not count. Otherwise a
            file without them causes a warning that names the statistics in use.
        prefix: see ``load_weights``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one of another network, with weights that are not finite, or with statistics
            that pixels in [0, 1] cannot have; says what differs and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder: name a file in it" if path.is_dir() else f"there is no {path}")
    if hasattr(network.network, "read"):  # an exported program
        if prefix is not None:
            raise ValueError(f"{SETTING} chooses weights of a file, and {path.name} is a program")
        network.network.read(path, counted_by(network))
        return check_finite(dict(network.network.named_parameters()), path)  # a mask in it may be infinite
    found_statistics = load_weights(network, path, prefix)
    check_finite(network.network.state_dict(), path)
    if has_statistics:
        return None
    mean, std = (getattr(network, name).flatten().tolist() for name in ("mean", "std"))
    if not found_statistics:
        warn_user(
            f"{path.name} does not say how its input was normalised: the run uses the statistics of this data set, "
            f"mean {_rounded(mean)} and std {_rounded(std)}. If its training used others, set teacher.mean and "
            "teacher.std"
        )
        return None
    try:
        return check_statistics(mean, std)
    except ValueError as error:
        raise ValueError(
            f"{path.name} contains statistics of its input: {error}, as teacher.mean, teacher.std"
        ) from error


def load_weights(network: nn.Module, path: Path, prefix: str | None = None) -> bool:
    """Load a .safetensors or a torch file (weights only) into a ``Normalized``; half and double become single.

    The function finds the network under any prefix: none, ``network.``, ``module.`` of DataParallel, ``model.`` of a
    Lightning module, or several of them. It leaves out tensors beside the network (a criterion, metrics, another
    network) with a warning that names them. If the file lacks the statistics of the input, or batch norm's counts of
    batches, which old torch did not write, those of ``network`` stay as they are.

    Args:
        prefix: the beginning of the network's names, or the entry of the file that holds them; None searches for it.

    Returns:
        Whether the file contains statistics of the input.

    Raises:
        ValueError: not a checkpoint, one of another network, or one with several networks that fit.
    """
    own = network.state_dict()
    kept = {n: value for n, value in own.items() if n in STATISTICS or n.endswith(COUNTS)}
    state = _part_of(own, *_read(path, prefix), path)
    check_same(own, {**kept, **state}, path, counted_by(network))
    _check_kinds(own, state, path)
    network.load_state_dict({**kept, **state})
    return not STATISTICS.isdisjoint(state)


def counted_by(network: nn.Module) -> str:
    """Return who says how many classes a ``Normalized`` has, for a message that a number follows."""
    return "the data has" if network.reclass is None else "teacher.classes names"


def check_checkpoint(network: nn.Module, path: Path, prefix: str | None = None) -> None:
    """Check that a file has the weights of a ``Normalized``, before the number of classes is known.

    Raises:
        ValueError: not a checkpoint, one without this network, or one with numbers that are not finite.
    """
    own = network.state_dict()
    state = _part_of(own, *_read(path, prefix), path)
    kept = {n: value for n, value in own.items() if n in STATISTICS or n.endswith(COUNTS)}
    check_same(own, {**kept, **{n: own.get(n, value) for n, value in state.items()}}, path)  # by name
    _check_kinds(own, state, path)
    check_finite(state, path)


def read_part(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint for a ``Normalized``, under its names, and unknown ones inside of it.

    Names and shapes are the caller's to compare.

    Raises:
        ValueError: not a checkpoint, one of several networks that fit, or one without floating-point weights.
    """
    own = network.state_dict()
    state = _part_of(own, *_read(path, None), path)
    _check_kinds(own, {name: value for name, value in state.items() if name in own}, path)
    return state


def _part_of(
    own: Mapping[str, Tensor], tensors: dict[str, Tensor], prefix: str | None, path: Path
) -> dict[str, Tensor]:
    """Return the file's tensors for the network, under the names of a ``Normalized``, and unknown ones inside of it.

    Raises:
        ValueError: several networks that fit, or no name that begins with ``prefix``.
    """
    named = {name: value for name, value in tensors.items() if name.startswith(prefix or "")}
    if not named:
        raise ValueError(
            f"{SETTING}={(prefix or '').removesuffix('.')}: no name in {path.name} begins with it; there are "
            f"{in_groups(list(tensors))}"
        )
    inner = {name.removeprefix(OURS): value for name, value in own.items() if name.startswith(OURS)}
    needed = {name: value for name, value in inner.items() if not name.endswith(COUNTS)}
    prefixes = candidates(needed, named, prefix)
    chosen = prefixes[0]
    if len(prefixes) > 1:
        under = first_few((each or "no prefix" for each in prefixes), 2 * MAX_NAMED)
        how = " or ".join(f"{SETTING}={_typed(each)}" for each in prefixes[:MAX_NAMED])
        raise ValueError(f"{path.name} holds {len(prefixes)} networks that fit, under {under}\nChoose one with {how}")
    state = {OURS + name: named[chosen + name] for name in inner if chosen + name in named}
    taken = {chosen + name for name in inner}
    if chosen.endswith(OURS):
        around = chosen.removesuffix(OURS)
        for name in STATISTICS:
            if around + name in named and named[around + name].shape == own[name].shape:
                state[name] = named[around + name]
                taken.add(around + name)
    rest = [name for name in named if name not in taken and name.rpartition(".")[2] != "n_averaged"]
    others = [other for other, count in count_by_prefix(needed, named).items() if count == len(needed)]
    left_out = beside(inner, rest, chosen, others) if others else []
    if left_out:
        under = f"under {chosen}" if chosen else "without a prefix"
        warn_user(f"{path.name}: the network's weights are those {under}; left out: {in_groups(left_out)}")
    unknown = {OURS + name.removeprefix(chosen): named[name] for name in rest if name not in set(left_out)}
    return state | unknown


def _read(path: Path, prefix: str | None) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors of a file by name, and the rest of ``prefix``; the content decides the kind of the file."""
    if not path.stat().st_size:
        raise ValueError(f"{path} is not a readable .safetensors or torch file: it is empty")
    kind = kind_of(path)
    if kind == "program":
        raise ValueError(f"{path} is a program, not weights: use teacher=exported teacher.checkpoint={path}")
    if kind == "script":
        raise ValueError(
            f"{path} is a TorchScript archive, not weights, and was not run\nSave the state_dict() of the original "
            "network, torch.save(network.state_dict(), 'teacher.pt')."
        )
    try:
        with path.open("rb") as file:
            if file.read(9)[8:] == b"{":  # after the length of its header
                return _state_in(safetensors.torch.load_file(path), path, prefix)
            file.seek(0)
            with torch.serialization.safe_globals([(StubObject, name) for name in BESIDE]):
                content = torch.load(file, map_location="cpu", weights_only=True)  # a path's suffix would decide
    except Exception as error:
        cause = first_line(error).partition(". ")[0]  # torch's next sentence advises something unsafe
        code = re.search(r"GLOBAL (\S+)", str(error))
        cause = f"it holds {code[1]}, which is code and was not run" if code else cause
        raise ValueError(
            f"{path} is not a readable .safetensors or weights-only torch file: {cause}\n"
            "A run opens only tensors of a checkpoint: on the machine that wrote it, save the network's state_dict() "
            "alone, torch.save(network.state_dict(), 'teacher.pt')."
        ) from error
    return _state_in(content, path, prefix)


def _state_in(content: object, path: Path, prefix: str | None) -> tuple[dict[str, Tensor], str | None]:
    """Return the state dict of a file: ``content`` itself or one of its entries, and the rest of ``prefix``.

    If ``prefix`` begins with the name of an entry, that entry counts; else one under a usual name. Several entries
    under other names become one state dict, with the names of the entries as prefixes.
    """
    prefix = f"{prefix.removesuffix('.')}." if prefix else prefix
    entries = content if isinstance(content, Mapping) else {}
    states = [name for name, value in entries.items() if _is_state(value)]
    requested = [name for name in states if prefix and prefix.startswith(f"{name}.")]
    usual = [name for name in HOLDS_WEIGHTS if isinstance(entries.get(name), Mapping)]
    chosen = requested or usual or states
    if requested:
        prefix = prefix.removeprefix(f"{requested[0]}.") or None
    elif len(usual) > 1:
        warn_user(
            f"{path.name}: the run uses the weights under {chosen[0]}; "
            f"{SETTING}={chosen[1]} uses those under {chosen[1]}"
        )
    elif len(chosen) > 1:
        tensors = {f"{entry}.{name}": value for entry in chosen for name, value in entries[entry].items()}
        return plain_names(tensors), prefix
    state = entries[chosen[0]] if chosen else content
    if not _is_state(state):
        holds = f" (it holds {first_few((str(name)[:40] for name in entries), 2 * MAX_NAMED)})" if entries else ""
        raise ValueError(f"{path} holds no state dict (tensors by name), neither itself nor in its entries{holds}")
    return plain_names(state), prefix


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _typed(prefix: str) -> str:
    """Format a prefix as a value of the command line, quoted if it would read as a number."""
    word = prefix.removesuffix(".")
    return word if re.fullmatch(r"[A-Za-z_][\w.]*|", word) else f"'\"{word}\"'"


def check_same(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, counted: str = "the data has"
) -> None:
    """Raise ValueError for tensors of other names or shapes."""
    missing = [f"{name} is missing" for name in sorted(set(own) - set(state))]
    unknown = [f"{name} is not known" for name in sorted(set(state) - set(own))]
    half = MAX_NAMED // 2  # of each, so that a message shows names which differ in one part together
    wrong = missing[:half] + unknown[:half] + missing[half:] + unknown[half:]
    shapes = {
        name: (tuple(state[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    }
    # a layer that differs in its first dimension alone feeds no other layer: it is the classifier
    ends = {(theirs[:1], ours[:1]) if theirs[1:] == ours[1:] else None for theirs, ours in shapes.values()}
    if not wrong and len(ends) == 1 and None not in ends:
        (((theirs,), (ours,)),) = ends
        raise ValueError(
            f"{path.name} has other classes: its classifier has {theirs} classes, {counted} {ours} "
            f"({_listed(list(shapes))}){OTHER_CLASSES if counted == 'the data has' else ''}"
        )
    wrong += [f"{name} is {theirs} and should be {ours}" for name, (theirs, ours) in shapes.items()]
    if wrong:
        raise ValueError(f"{path.name} holds the weights of another network: {_listed(wrong)}{_renaming(own, state)}")


def _check_kinds(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError for tensors that are not plain floating-point numbers where the network has such."""
    odd = [
        f"{name} is {'quantised' if value.is_quantized else value.dtype if value.layout == torch.strided else 'sparse'}"
        for name, value in state.items()
        if own[name].is_floating_point() and (value.dtype not in FLOATS or value.layout != torch.strided)
    ]
    odd += [f"{name} has a shape and no numbers" for name, value in state.items() if value.is_meta]
    if odd:
        raise ValueError(f"{path.name} holds tensors that are not floating-point weights: {_listed(odd)}")


def _renaming(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return advice to rename tensors if each missing one exists under another name, as the head of a wrapper does."""
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    pairs = {
        name: [n for n in unknown if n.split(".")[-1] == name.split(".")[-1] and state[n].shape == own[name].shape]
        for name in missing
    }
    if not missing or len(missing) != len(unknown) or any(len(matches) != 1 for matches in pairs.values()):
        return ""
    renamed = [f"{matches[0]} to {name.removeprefix(OURS)}" for name, matches in pairs.items()]
    return f"\nIf they are the same tensors under other names, rename them in the file: {_listed(renamed)}"


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError for weights that are NaN or infinite."""
    counts = {name: int((~value.isfinite()).sum()) for name, value in tensors.items()}
    bad = [f"{name} ({count} of {tensors[name].numel()})" for name, count in counts.items() if count]
    if bad:
        raise ValueError(
            f"{path.name} holds numbers that are NaN or infinite, in {len(bad)} of {len(tensors)} tensors: "
            f"{_listed(bad)}. The training that wrote it diverged, or the file is damaged."
        )


def _listed(texts: list[str]) -> str:
    """Join the first few of texts that begin with the name of a tensor, under its name in the file."""
    return first_few((text.removeprefix("network.") for text in texts), MAX_NAMED, "; ")


def _rounded(values: list[float]) -> str:
    return "[" + ",".join(f"{value:.3g}" for value in values) + "]"
