"""``student.int8.onnx``: static quantisation by onnxruntime, weights per channel, activations per tensor.

Weights get 7 bits: two products of a uint8 activation and a weight of at most 64 fit in 16 bits, so the file computes
the same on processors with and without VNNI. With 8 bits it would overflow on those without. Logits stay float32, since
256 steps would make ties of close classes. The calibration method is chosen on the validation split.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from torch import Tensor

from kd.export.calibrate import METHODS, collect
from kd.report.text import standard_error

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
QUANTISED = (  # operators that onnxruntime has int8 kernels for, or that pass int8 numbers on unchanged
    *WEIGHTED,
    *("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Pad"),
)
OPTIONS = {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"], "MatMulConstBOnly": True}


class Score(NamedTuple):
    """Of a file on the validation split."""

    accuracy: float  # in [0, 1]
    nll: float  # nats


class Choice(NamedTuple):
    """A quantised network."""

    model: onnx.ModelProto
    method: str  # a key of METHODS
    score: Score
    left_out: tuple[str, ...] = ()  # layers that stay float32


class Quantiser:
    """Quantises one network, with any method and any layers left out.

    Args:
        model: float32. batches: returns training views, [B, 3, S, S] each; see ``collect``.

    Raises:
        ValueError: the network has no layer that can be quantised.
    """

    def __init__(self, model: onnx.ModelProto, batches: Callable[[], Iterable[Tensor]]):
        self.model = relu_before_pool(onnx.shape_inference.infer_shapes(model))
        self.layers = layers(self.model)
        if not self.layers:
            raise ValueError("the network has no convolution and no linear layer to quantise")
        self.histograms = collect(self.model, batches)

    def quantise(self, method: str, left_out: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the network in int8, but for the layers that are left out: see ``layers``."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.model)
        excluded = [name for layer in left_out for name in self.layers[layer]]
        ranges = {
            name: tuple(np.array(end, dtype=np.float32) for end in METHODS[method](found))
            for name, found in self.histograms.items()
        }
        with silent():
            quantizer = QDQQuantizer(
                whole,
                True,  # per channel
                True,  # 7 bits
                QuantType.QInt8,
                QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, ranges),
                [],
                excluded,
                list(QUANTISED),
                dict(OPTIONS),
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        return quantizer.model.model


def relu_before_pool(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move each ReLU behind a max-pool in front of it: the same function, since both keep the order of numbers.

    Then the convolution before them gives no negative numbers, so that all 256 steps are for positive ones, and
    onnxruntime pools int8 numbers.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    by_input = {node.input[0]: node for node in graph.node if node.op_type == "Relu"}
    known = {value.name: value for value in graph.value_info}
    for pool in graph.node:
        relu = by_input.get(pool.output[0]) if pool.op_type == "MaxPool" and len(pool.output) == 1 else None
        if relu is None or readers[pool.output[0]] != 1 or pool.input[0] not in known:
            continue
        before, positive = pool.input[0], f"{pool.input[0]}_positive"
        graph.value_info.add().CopyFrom(known[before])
        graph.value_info[-1].name = positive
        relu.input[0], pool.input[0], pool.output[0], relu.output[0] = before, positive, relu.output[0], positive
        place = list(graph.node).index(pool)
        moved = onnx.NodeProto()
        moved.CopyFrom(relu)
        graph.node.remove(relu)
        graph.node.insert(place, moved)
    return whole


def layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return by layer the names of its nodes: one with weights, and those that follow it up to the next one.

    A tensor is quantised if any node around it is, so the nodes behind a layer stay float32 together with it.
    """
    weights = {each.name for each in model.graph.initializer}
    found: dict[str, list[str]] = {}
    current = None
    for node in model.graph.node:
        if node.op_type in WEIGHTED and any(name in weights for name in node.input[1:2]):
            current = found.setdefault(_layer_name(node), [])
        if current is not None:
            current.append(node.name)
    return found


def _layer_name(node: onnx.NodeProto) -> str:
    """Return the path of the module that a node came from, where its weight still has that name."""
    name = node.input[1]
    return name.removeprefix("network.").removesuffix(".weight") if name.endswith(".weight") else node.name


def choose(
    quantiser: Quantiser, score: Callable[[onnx.ModelProto], Score], images: int
) -> tuple[Choice, dict[str, Score]]:
    """Return the best method on validation, see ``best_of``, and the scores of all.

    Args:
        score: on the validation split. images: in that split.
    """
    made = {method: quantiser.quantise(method) for method in METHODS}
    tried = {method: score(model) for method, model in made.items()}
    method = best_of(tried, images)
    return Choice(made[method], method, tried[method]), tried


def best_of(tried: Mapping[str, Score], images: int) -> str:
    """Return the method with the least NLL among those whose accuracy is within one standard error of the best.

    One image more or less decides nothing between two methods, and NLL sees how far each moves the probabilities.
    """
    top = max(score.accuracy for score in tried.values())
    least = top - standard_error(top, images)
    return min((method for method, score in tried.items() if score.accuracy >= least), key=lambda m: tried[m].nll)


def leave_out(
    quantiser: Quantiser, method: str, score: Callable[[onnx.ModelProto], Score], enough: Callable[[Score], bool]
) -> Choice | None:
    """Leave out as few layers as needed, those first that do most harm when they alone are quantised.

    Args:
        score: on the validation split. enough: whether a score there is good enough.

    Returns:
        None if every layer would have to stay float32.
    """
    names = list(quantiser.layers)
    harm = {name: score(quantiser.quantise(method, [each for each in names if each != name])) for name in names}
    worst_first = sorted(names, key=lambda name: -harm[name].nll)
    for count in _counts(len(names)):
        left_out = worst_first[:count]
        model = quantiser.quantise(method, left_out)
        found = score(model)
        if enough(found):
            return Choice(model, method, found, tuple(name for name in names if name in left_out))
    return None


def _counts(layers: int) -> Iterator[int]:
    """Yield 1, 2, 3, ... and in a deep network larger steps, always fewer than all layers."""
    count = 1
    while count < layers:
        yield count
        count += max(1, count // 4)


def about(choice: Choice, images: int) -> dict[str, Any]:
    """Return what a file says of its quantisation, as metadata."""
    return {
        "quantisation": "static, QDQ, int8 weights per channel (7 bits), uint8 activations per tensor",
        "calibration": f"{choice.method} on {images} training views, chosen by validation",
        "float32_layers": ", ".join(choice.left_out),
    }


@contextmanager
def silent() -> Iterator[None]:
    """Silence the quantiser, which prints and warns of what is intended."""
    log = logging.getLogger()
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)
        with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
            yield
    finally:
        log.setLevel(level)
