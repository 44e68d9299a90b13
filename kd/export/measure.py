"""What each file computes and how long it takes: logits on many images, agreement, latency."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from kd.evaluation.latency import free_algorithms, time_calls
from kd.evaluation.metrics import accuracy, agreement, nll
from kd.export.onnx_file import INPUT
from kd.runtime.device import Device
from kd.runtime.threads import threads

LARGE_BATCH = 64  # images of the second batch that is timed
QUIET = 3  # of onnxruntime's log levels: errors alone
Predict = Callable[[Tensor], np.ndarray]  # float32 [B, 3, S, S] in [0, 1] -> logits [B, K]


class Scores(NamedTuple):
    """How a file does beside the torch student on the same images; None where the images have no labels."""

    accuracy: float | None  # in [0, 1]
    agreement: float  # share of images on which both predict the same class
    nll: float | None  # nats
    largest_difference: float  # of logits


def open_session(model: Path | bytes, count: int | None = None, optimise: bool = True) -> onnxruntime.InferenceSession:
    """Open a model in onnxruntime, on the CPU.

    Args:
        count: threads; None: those that torch uses. optimise: as a program that uses the file would.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = count or torch.get_num_threads()
    options.inter_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def by_session(session: onnxruntime.InferenceSession) -> Predict:
    """Return the logits of a model of onnxruntime as a function of images."""
    return lambda images: session.run(None, {INPUT: images.numpy()})[0]


def by_torch(network: Callable[[Tensor], Tensor]) -> Predict:
    """Return the logits of a network of torch as a function of images."""

    def predict(images: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return network(images).float().numpy()

    return predict


def predict_all(predict: Predict, batches: Iterable[Tensor]) -> np.ndarray:
    """Return the logits of all images, float32 [N, K]."""
    return np.concatenate([predict(images) for images in batches])


def compare(logits: np.ndarray, reference: np.ndarray, targets: np.ndarray | None) -> Scores:
    """Compare logits [N, K] with those of the torch student; ``targets`` int64 [N]."""
    return Scores(
        None if targets is None else accuracy(logits, targets),
        agreement(logits, reference),
        None if targets is None else nll(logits, targets),
        float(np.abs(logits.astype(np.float64) - reference).max()),
    )


Latency = dict[str, dict[str, dict[str, Any]]]


def torch_latency(
    network: nn.Module | Callable[[Tensor], Tensor], size: int, seconds: float, device: Device
) -> Latency:
    """Time a network of torch as ``kd.evaluation.latency`` does, see ``_time``."""

    def on(count: int) -> Callable[[Tensor], Any]:
        return network

    with torch.inference_mode(), free_algorithms():
        return _time(on, size, seconds, device.channels_last)


def session_latency(path: Path, size: int, seconds: float) -> Latency:
    """Time a file in onnxruntime, see ``_time``."""

    def on(count: int) -> Callable[[Tensor], Any]:
        session = open_session(path, count)
        return lambda images: session.run(None, {INPUT: images.numpy()})

    return _time(on, size, seconds, channels_last=False)


def _time(on: Callable[[int], Callable[[Tensor], Any]], size: int, seconds: float, channels_last: bool) -> Latency:
    """Time calls with all threads of torch and with one, at batch 1 and ``LARGE_BATCH``.

    Args:
        on: returns the call for a number of threads. seconds: about how long each of the four is timed.

    Returns:
        ``{"all_threads": {"batch_1": {"p50", "p95", "calm"}, "batch_64": ...}, "one_thread": ...}`` in milliseconds.
    """
    found: Latency = {}
    for name, count in (("all_threads", torch.get_num_threads()), ("one_thread", 1)):
        if name == "one_thread" and torch.get_num_threads() == 1:
            return {**found, name: found["all_threads"]}
        with threads(count), contextlib.closing(_Timed(on(count))) as timed:
            found[name] = {
                f"batch_{batch}": time_calls(timed.on(_images(batch, size, channels_last)), count, seconds)
                for batch in (1, LARGE_BATCH)
            }
    return found


class _Timed:
    """A call that lets go of its session at the end, so that the threads of one do not run beside the next."""

    def __init__(self, call: Callable[[Tensor], Any]):
        self.call = call

    def on(self, images: Tensor) -> Callable[[], None]:
        return lambda: self.call(images)

    def close(self) -> None:
        del self.call


def _images(batch: int, size: int, channels_last: bool) -> Tensor:
    images = torch.rand(batch, 3, size, size)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def random_images(size: int, count: int = 256, batch: int = 64) -> Iterator[Tensor]:
    """Yield seeded random images, where there are no images: smooth and noisy ones, bright and dark."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(0, count, batch):
        side = torch.randint(1, size + 1, (1,), generator=generator).item()
        coarse = torch.rand(batch, 3, side, side, generator=generator)
        light = torch.rand(batch, 3, 1, 1, generator=generator)
        yield (light * torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")).clamp_(0, 1)
