"""The ranges of a network's activations, which int8 numbers are spread over; three ways to choose them.

MinMax keeps every value. The others cut off rare ones, so that the common ones get finer steps: Percentile by their
share, Entropy by how much of the distribution is lost (Migacz 2017, "8-bit inference with TensorRT"). All are computed
from one histogram of each tensor. (onnxruntime's own calibrators run the network again for each method, and its
Entropy tries a single threshold with its default of 128 bins.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor

from kd.export.measure import open_session
from kd.export.onnx_file import INPUT

BINS = 2048  # of a histogram
LEVELS = 256  # of an int8 number
THRESHOLDS = np.geomspace(1 / 16, 1, 64)  # shares of the largest absolute value that Entropy tries


class Histogram(NamedTuple):
    """Values of one tensor over all images."""

    low: float
    high: float
    counts: np.ndarray  # float64 [BINS], of equal width between low and high

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(self.low, self.high, len(self.counts) + 1)


Range = tuple[float, float]


def collect(model: onnx.ModelProto, batches: Callable[[], Iterable[Tensor]]) -> dict[str, Histogram]:
    """Return a histogram of each float tensor that a model computes, and of its input.

    Args:
        model: with the types of its tensors, see ``onnx.shape_inference``.
        batches: returns the images, [B, 3, H, W] each; called twice, since the bins depend on the largest value.
    """
    whole, names = _showing_all(model)
    session = open_session(whole.SerializeToString(), optimise=False)

    def tensors(images: Tensor) -> Iterable[tuple[str, Tensor]]:
        values = session.run(names, {INPUT: images.numpy()})
        return ((name, torch.from_numpy(np.array(value))) for name, value in zip(names, values, strict=True))

    ends: dict[str, Range] = {}
    for images in batches():
        for name, value in [*tensors(images), (INPUT, images)]:
            low, high = (end.item() for end in value.aminmax())
            before = ends.get(name, (low, high))
            ends[name] = min(before[0], low), max(before[1], high)
    counts = {name: np.zeros(BINS) for name in ends}
    for images in batches():
        for name, value in [*tensors(images), (INPUT, images)]:
            low, high = ends[name]
            if low < high:
                counts[name] += torch.histc(value, BINS, low, high).double().numpy()
    return {name: Histogram(*ends[name], counts[name]) for name in ends}


def _showing_all(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy of a model that returns every float tensor, and their names."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    known = {value.name for value in whole.graph.output}
    computed = {name for node in whole.graph.node for name in node.output}
    for value in model.graph.value_info:
        is_float = value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        if is_float and value.name in computed and value.name not in known:
            whole.graph.output.append(value)
    names = [value.name for value in whole.graph.output]
    return whole, [name for name in names if name in computed]


def min_max(found: Histogram) -> Range:
    """Return the range of all values."""
    return found.low, found.high


def percentile(found: Histogram, share: float) -> Range:
    """Return the range without the outermost values; ``share`` percent of them stay."""
    total = found.counts.sum()
    if not total:
        return found.low, found.high
    cut = (100 - share) / 200
    below = found.counts.cumsum() / total
    left, right = np.searchsorted(below, [cut, 1 - cut], side="left")
    edges = found.edges
    return float(edges[left]), float(edges[min(right + 1, len(edges) - 1)])


def entropy(found: Histogram) -> Range:
    """Return the range, cut to [-t, t], whose int8 numbers lose least of the distribution (KL divergence)."""
    most = max(abs(found.low), abs(found.high))
    if not found.counts.sum() or not most:
        return found.low, found.high
    found = _without_zeros(found)
    candidates = [(max(found.low, -share * most), min(found.high, share * most)) for share in THRESHOLDS]
    losses = [_divergence(found, *each) for each in candidates]
    return candidates[int(np.argmin(losses))]


def _without_zeros(found: Histogram) -> Histogram:
    """Return a histogram with as many zeros as values beside them: int8 keeps 0 exactly, and a ReLU makes many."""
    counts = found.counts.copy()
    zero = int(np.clip(np.searchsorted(found.edges, 0.0, side="right") - 1, 0, len(counts) - 1))
    beside = [counts[place] for place in (zero - 1, zero + 1) if 0 <= place < len(counts)]
    counts[zero] = min(counts[zero], max(beside))
    return found._replace(counts=counts)


def _divergence(found: Histogram, low: float, high: float) -> float:
    """Return KL(P || Q) in nats: P the values, clipped to the range; Q the same in ``LEVELS`` equal steps."""
    centres = (found.edges[1:] + found.edges[:-1]) / 2
    inside = (centres >= low) & (centres <= high)
    if low >= high or not inside.any():
        return np.inf
    first, last = np.flatnonzero(inside)[[0, -1]]
    p = found.counts[first : last + 1].copy()
    own = p.copy()  # without what is clipped: that is lost
    p[0] += found.counts[:first].sum()
    p[-1] += found.counts[last + 1 :].sum()
    level = np.minimum(np.arange(len(p)) * LEVELS // len(p), LEVELS - 1)
    filled = p > 0
    mass = np.bincount(level, own, LEVELS)
    bins = np.maximum(np.bincount(level, filled, LEVELS), 1)
    q = (mass / bins)[level]
    p, q = p / p.sum(), q / max(q[filled].sum(), 1e-30)
    return float((p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-12))).sum())


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "MinMax": min_max,
    "Percentile 99.999": partial(percentile, share=99.999),
    "Percentile 99.99": partial(percentile, share=99.99),
    "Percentile 99.9": partial(percentile, share=99.9),
    "Entropy": entropy,
}
