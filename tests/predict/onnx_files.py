"""ONNX files of a few bytes that describe themselves: the mean of each channel, times a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd.inference.description import Description


def weight_of(classes: int) -> np.ndarray:
    """Return [3, K]."""
    return np.random.default_rng(classes).normal(size=(3, classes)).astype(np.float32)


def write_onnx(path: Path, classes: tuple[str, ...], side: int = 12, described: bool = True, **more) -> Description:
    """Write a classifier for images [B, 3, side, side].

    Args:
        more: fields of its description.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    description = Description({"network": {"_target_": "kd.models.tiny_cnn.TinyCnn"}}, classes, side, side, **more)
    weight = numpy_helper.from_array(weight_of(len(classes)), "weight")
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    takes = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, side, side])
    gives = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(classes)])
    graph = helper.make_graph(nodes, "small", [takes], [gives], [weight, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if described:
        helper.set_model_props(model, description.to_metadata())
    onnx.save_model(model, path)
    return description
