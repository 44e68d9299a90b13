"""Where a network stands in a checkpoint that holds more: the prefix that its own names have there.

A Lightning module keeps its criterion and its metrics beside the network, DDP and ``torch.compile`` put words before
every name, one file holds student and teacher. Pure functions of names and tensors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kd.runtime.text import first_few

# what torch's wrappers put into names, at any depth
WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
COUNTED = re.compile(r"(^|\.)total_(ops|params)$")  # thop leaves them in every module that it has measured
# words in the name of what stands beside a network where nothing stands before the network's own names
COMPANION = {"criterion", "loss", "losses", "metric", "metrics", "acc", "accuracy", "auroc", "f1"}
COMPANION |= {"ema", "teacher", "train", "val", "valid", "test"}
COMPANION |= {"weight", "weights", "ce", "bce", "nll", "mse", "kl", "focal", "dice", "iou"}  # class_weights, ce.weight
COMPANION |= {"confmat", "confusion", "precision", "recall"}
FEW = 4  # of what is left out is named

Tensors = Mapping[str, Tensor]


def plain_names(tensors: Tensors) -> dict[str, Tensor]:
    """The same without what torch's wrappers put into names, wherever a module was wrapped."""
    return {WRAPPED.sub("", name): value for name, value in tensors.items()}


def places_of(own: Collection[str], names: Iterable[str]) -> Counter[str]:
    """How many of the ``own`` names stand behind each prefix of ``names``; a prefix is empty or ends in a dot."""
    counts = Counter[str]()
    for name in names:
        start = 0
        while start >= 0:
            if name[start:] in own:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1 or -1
    return counts


def candidates(own: Tensors, tensors: Tensors, asked: str | None = None) -> list[str]:
    """The prefixes under which the whole network stands, its shapes differing least; else the one that has most of it.

    Copies of the same tensors (one module under two names) are one.

    Args:
        own: the network's. asked: what the prefix is or begins with.
    """
    counts = places_of(own.keys(), tensors)
    whole = [place for place, count in counts.items() if count == len(own)]
    if asked in whole:
        return [asked]
    if not whole:
        return [max(counts, key=lambda place: (counts[place], -len(place)))] if counts else [asked or ""]
    apart = {place: sum(tensors[place + n].shape != value.shape for n, value in own.items()) for place in whole}
    found = list[str]()
    for place in (place for place in whole if apart[place] == min(apart.values())):
        if not any(_same(own, tensors, place, other) for other in found):
            found.append(place)
    return found


def _same(own: Iterable[str], tensors: Tensors, place: str, other: str) -> bool:
    pairs = [(tensors[place + name], tensors[other + name]) for name in own]
    plain = all(x.layout == torch.strided and not x.is_meta and not x.is_quantized for pair in pairs for x in pair)
    return plain and all(one.dtype == two.dtype and torch.equal(one, two) for one, two in pairs)


def beside(own: Collection[str], names: Iterable[str], place: str, others: Iterable[str]) -> list[str]:
    """Of the names that are not taken, those of what stands beside the network; the rest would belong into it.

    Args:
        own: names of the network. place: its prefix. others: prefixes of other networks that would fit.
    """
    children = {name.partition(".")[0] for name in own}
    inner = tuple(other for other in others if other.startswith(place) and other != place)

    def is_beside(name: str) -> bool:
        if not name.startswith(place) or COUNTED.search(name) or (inner and name.startswith(inner)):
            return True
        child = name[len(place) :].partition(".")[0]
        return child not in children and not COMPANION.isdisjoint(child.lower().split("_"))

    return [name for name in names if is_beside(name)]


def in_groups(names: Sequence[str]) -> str:
    """A few names; many with the same first part as ``teacher.* (122)``."""
    heads = [name.partition(".")[0] for name in names]
    count = Counter(heads)
    told = [
        name if count[head] <= FEW else f"{head}.* ({count[head]})" for head, name in zip(heads, names, strict=True)
    ]
    return first_few(dict.fromkeys(told), FEW)
