"""Find a network in a checkpoint that holds more: the prefix of its parameter names.

A Lightning module stores its criterion and metrics beside the network, DDP and ``torch.compile`` add words before every
name, and one file may hold student and teacher. Pure functions of names and tensors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kd.runtime.text import first_few

# words that torch's wrappers add to names, at any depth
WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
COUNTED = re.compile(r"(^|\.)total_(ops|params)$")  # thop adds them to every module that it measures
# words in the names of tensors beside a network, where the network's own names have no prefix
COMPANION = {"criterion", "loss", "losses", "metric", "metrics", "acc", "accuracy", "auroc", "f1"}
COMPANION |= {"ema", "teacher", "train", "val", "valid", "test"}
COMPANION |= {"weight", "weights", "ce", "bce", "nll", "mse", "kl", "focal", "dice", "iou"}  # class_weights, ce.weight
COMPANION |= {"confmat", "confusion", "precision", "recall"}
MAX_NAMED = 4  # names in a message

Tensors = Mapping[str, Tensor]


def plain_names(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors under their names without the words of torch's wrappers."""
    return {WRAPPED.sub("", name): value for name, value in tensors.items()}


def count_by_prefix(own: Collection[str], names: Iterable[str]) -> Counter[str]:
    """Count, for each prefix in ``names``, the ``own`` names that follow it; a prefix is empty or ends in a dot."""
    counts = Counter[str]()
    for name in names:
        start = 0
        while start >= 0:
            if name[start:] in own:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1 or -1
    return counts


def candidates(own: Tensors, tensors: Tensors, requested: str | None = None) -> list[str]:
    """Return the prefixes that hold the whole network; if there are none, the one that holds most of it.

    Of several, those with the fewest wrong shapes count. Copies of the same tensors (one module under two names) count
    once.

    Args:
        own: tensors of the network. requested: a prefix that the user gave, or its beginning.
    """
    counts = count_by_prefix(own.keys(), tensors)
    whole = [prefix for prefix, count in counts.items() if count == len(own)]
    if requested in whole:
        return [requested]
    if not whole:
        return [max(counts, key=lambda prefix: (counts[prefix], -len(prefix)))] if counts else [requested or ""]
    wrong = {prefix: sum(tensors[prefix + n].shape != value.shape for n, value in own.items()) for prefix in whole}
    distinct = list[str]()
    for prefix in (prefix for prefix in whole if wrong[prefix] == min(wrong.values())):
        if not any(_same(own, tensors, prefix, other) for other in distinct):
            distinct.append(prefix)
    return distinct


def _same(own: Iterable[str], tensors: Tensors, prefix: str, other: str) -> bool:
    pairs = [(tensors[prefix + name], tensors[other + name]) for name in own]
    plain = all(x.layout == torch.strided and not x.is_meta and not x.is_quantized for pair in pairs for x in pair)
    return plain and all(one.dtype == two.dtype and torch.equal(one, two) for one, two in pairs)


def beside(own: Collection[str], names: Iterable[str], prefix: str, others: Iterable[str]) -> list[str]:
    """Return the names that belong beside the network; the other names would belong into it.

    Args:
        own: names of the network. names: those that the network does not use. prefix: that of the network.
        others: prefixes of other networks that would fit.
    """
    children = {name.partition(".")[0] for name in own}
    inner = tuple(other for other in others if other.startswith(prefix) and other != prefix)

    def is_beside(name: str) -> bool:
        if not name.startswith(prefix) or COUNTED.search(name) or (inner and name.startswith(inner)):
            return True
        child = name[len(prefix) :].partition(".")[0]
        return child not in children and not COMPANION.isdisjoint(child.lower().split("_"))

    return [name for name in names if is_beside(name)]


def in_groups(names: Sequence[str]) -> str:
    """Format a few names; many with the same first part become ``teacher.* (122)``."""
    heads = [name.partition(".")[0] for name in names]
    count = Counter(heads)
    groups = [
        name if count[head] <= MAX_NAMED else f"{head}.* ({count[head]})"
        for head, name in zip(heads, names, strict=True)
    ]
    return first_few(dict.fromkeys(groups), MAX_NAMED)
