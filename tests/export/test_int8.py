"""int8: what is quantised and how, ranges against numbers made by hand, the choice, and the layers to leave out."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from kd.export import calibrate
from kd.export.calibrate import METHODS, Histogram, entropy, min_max, percentile
from kd.export.int8 import Quantiser, Score, best_of, choose, layers, leave_out, relu_before_pool
from kd.export.measure import by_session, compare, open_session, random_images
from kd.export.onnx_file import write_onnx
from kd.export.write import fold
from tests.export.students import TINY, images, student

WHOLE = {**TINY, "width": 1.0}  # 94,470 parameters at 6 classes
SIX = tuple("abcdef")


def float_model(network, folder, classes=SIX) -> onnx.ModelProto:
    return write_onnx(fold(network, 32)[1], folder / "student.onnx", student(WHOLE, 32, classes).description)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return float_model(student(WHOLE, 32, SIX).network, tmp_path_factory.mktemp("int8"))


@pytest.fixture(scope="module")
def quantiser(model):
    return Quantiser(model, views)


def views():
    return iter([images(32, 32, 1), images(32, 32, 2)])


def run(model: onnx.ModelProto, some: torch.Tensor) -> np.ndarray:
    return by_session(open_session(model.SerializeToString()))(some)


def tensors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_weights_have_seven_bits_per_channel_and_logits_stay_float(quantiser):
    made = quantiser.quantise("MinMax")
    found = tensors(made)
    weights = {name: value for name, value in found.items() if value.dtype == np.int8 and value.ndim > 1}
    assert len(weights) == 4  # three convolutions and the classifier
    for name, value in weights.items():
        scale = found[name.replace("_quantized", "_scale")]
        assert scale.shape == value.shape[:1], "one scale for each channel"
        assert np.abs(value).max() <= 64, "two products of 8 and 7 bits fit in 16"
    kinds = {node.op_type for node in made.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= kinds
    assert made.graph.node[-1].op_type == "Gemm" and made.graph.node[-1].output[0] == "logits"
    activations = [value.dtype for name, value in found.items() if name.endswith("_zero_point") and value.ndim == 0]
    assert set(activations) == {np.dtype(np.uint8)}
    onnx.checker.check_model(made, full_check=True)


def test_the_default_student_takes_at_most_130_kilobytes(quantiser):
    assert len(quantiser.quantise("MinMax").SerializeToString()) <= 130_000


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_close_to_float32(quantiser, model, method):
    some = images(16, 32, 3)
    expected = run(model, some)
    logits = run(quantiser.quantise(method), some)
    assert np.abs(logits - expected).max() < 0.15 * np.abs(expected).max()


def test_pooling_after_the_relu_is_the_same_function(model, quantiser):
    kinds = [node.op_type for node in quantiser.model.graph.node]
    assert [kind for kind in kinds if kind in ("Relu", "MaxPool")] == ["Relu", "MaxPool"] * 3
    assert [node.op_type for node in model.graph.node].index("MaxPool") < [
        node.op_type for node in model.graph.node
    ].index("Relu"), "the original changed"
    some = images(8, 32, 4)
    assert np.array_equal(run(quantiser.model, some), run(model, some))


def test_a_pool_that_others_read_too_stays_in_front_of_the_relu():
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 1, 4, 4]) for name in "xyz"]
    inner = [onnx.helper.make_tensor_value_info(name, 1, None) for name in "ab"]
    nodes = [
        onnx.helper.make_node("Identity", ["x"], ["a"], "start"),
        onnx.helper.make_node("MaxPool", ["a"], ["b"], "pool", kernel_shape=[1, 1]),
        onnx.helper.make_node("Relu", ["b"], ["y"], "relu"),
        onnx.helper.make_node("Neg", ["b"], ["z"], "other"),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], value_info=inner)
    made = onnx.helper.make_model(graph)
    assert relu_before_pool(made) == made


def test_every_node_behind_the_first_layer_belongs_to_one_layer(quantiser):
    found = layers(quantiser.model)
    assert list(found) == ["stages.0.0", "stages.1.0", "stages.2.0", "classifier"]
    names = [name for group in found.values() for name in group]
    first = names[0]
    whole = [node.name for node in quantiser.model.graph.node]
    assert names == whole[whole.index(first) :] and len(set(names)) == len(names)


def test_a_layer_that_is_left_out_keeps_its_float32_weights(quantiser, model):
    made = quantiser.quantise("MinMax", ["stages.1.0"])
    kept = [name for name, value in tensors(made).items() if value.dtype == np.float32 and value.ndim == 4]
    assert kept == ["network.stages.1.0.weight"]
    nothing = quantiser.quantise("MinMax", list(quantiser.layers))
    some = images(4, 32, 5)
    assert not any(node.op_type == "QuantizeLinear" for node in nothing.graph.node)
    assert np.abs(run(nothing, some) - run(model, some)).max() < 1e-5


# ranges


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, calibrate.BINS, (low, high))[0].astype(float))


def test_percentile_cuts_half_of_the_rest_at_either_end():
    found = histogram(np.linspace(-1, 1, 100_001))
    width = 2 / calibrate.BINS
    for share in (99.9, 99, 90):
        low, high = percentile(found, share)
        assert low == pytest.approx(-share / 100, abs=2 * width) and high == pytest.approx(share / 100, abs=2 * width)
    assert min_max(found) == (-1, 1)


def test_entropy_cuts_off_what_is_rare_and_far_away():
    random = np.random.default_rng(0)
    values = np.append(np.abs(random.normal(size=100_000)), [100.0])
    low, high = entropy(histogram(values))
    assert low >= 0 and 3 < high < 12
    even = histogram(random.uniform(-1, 1, 100_000))
    assert entropy(even)[1] > 0.85, "of values that are all alike frequent, nearly all are kept"


def test_many_zeros_do_not_change_what_entropy_keeps():
    random = np.random.default_rng(0)
    values = np.abs(random.normal(size=50_000))
    alone, among_zeros = entropy(histogram(values)), entropy(histogram(np.append(values, np.zeros(500_000))))
    assert among_zeros[1] == pytest.approx(alone[1], rel=0.3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_tensor_of_equal_numbers_has_a_range(method, value):
    found = Histogram(value, value, np.zeros(calibrate.BINS))
    assert METHODS[method](found) == (value, value)


def test_histograms_hold_every_value_of_every_image(quantiser):
    some = torch.cat(list(views()))
    found = quantiser.histograms["images"]
    assert found.counts.sum() == some.numel() and (found.low, found.high) == (some.min(), some.max())
    logits = run(quantiser.model, some)
    assert quantiser.histograms["logits"].low == pytest.approx(logits.min(), abs=1e-5)


# the choice


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"MinMax": (0.90, 0.30), "Entropy": (0.91, 0.35)}, "MinMax"),  # one image of 100: NLL decides
        ({"MinMax": (0.80, 0.30), "Entropy": (0.91, 0.35)}, "Entropy"),  # ten images: accuracy decides
        ({"MinMax": (0.90, 0.30), "Entropy": (0.90, 0.30)}, "MinMax"),  # equal: the first
        ({"MinMax": (1.00, 0.02), "Entropy": (0.99, 0.01)}, "MinMax"),
    ],
)
def test_nll_decides_between_methods_that_accuracy_does_not_tell_apart(scores, expected):
    assert best_of({name: Score(*score) for name, score in scores.items()}, 100) == expected


def test_choose_scores_every_method_on_validation(quantiser):
    seen = []

    def score(made):
        seen.append(made)
        return Score(0.5, 1.0 - len(seen) / 10)

    best, tried = choose(quantiser, score, 60)
    assert list(tried) == list(METHODS) and best.method == list(METHODS)[-1] and best.model is seen[-1]
    assert best.left_out == ()


@cache
def outlier_network():
    """A student whose channels between two layers lie between 1 and 4,096 times their size: the same function."""
    network = student(WHOLE, 32, SIX).network
    norm, following = network.network.stages[1][1], network.network.stages[2][0]
    with torch.no_grad():
        scale = 2.0 ** (torch.arange(64) // 5)  # powers of two change no bit of the result
        norm.weight *= scale
        norm.bias *= scale
        following.weight /= scale[:, None, None]
        network.network.classifier.bias -= network(torch.cat(list(random_images(32)))).median(0).values
    return network


def test_the_layers_that_do_harm_are_found_and_left_out(tmp_path):
    model = float_model(outlier_network(), tmp_path)
    some = torch.cat(list(random_images(32)))
    expected = run(model, some)
    targets = expected.argmax(1)
    assert np.bincount(targets, minlength=6).max() < 200, "the network must tell images apart"

    def score(made):
        found = compare(run(made, some), expected, targets)
        return Score(found.accuracy, found.nll)

    quantiser = Quantiser(model, views)
    best, tried = choose(quantiser, score, len(targets))
    assert best.score.accuracy < 0.9, "channels that large ruin the others"
    better = leave_out(quantiser, best.method, score, lambda found: found.accuracy >= 0.95)
    assert {"stages.1.0", "stages.2.0"} <= set(better.left_out) and len(better.left_out) < 4
    assert better.score.accuracy >= 0.95
    assert leave_out(quantiser, best.method, score, lambda found: math.isnan(found.nll)) is None


def test_a_network_without_weights_in_layers_is_refused():
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 4, 4]) for name in ("images", "logits")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["images"], ["logits"], "r")], "g", *[[v] for v in values]
    )
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        Quantiser(onnx.helper.make_model(graph), views)
