"""Decode, predict and count, batch by batch: what is kept of an image is its most probable classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from kd.data.files import printable
from kd.data.loader import EVAL_BATCH
from kd.data.readers.silence import silence_libraries
from kd.evaluation.metrics import confusion, probabilities
from kd.inference.preprocess import stored_pixels
from kd.predict.decode import ahead_of, decode_batches
from kd.predict.networks import Network
from kd.runtime.memory import explain_out_of_memory


@dataclass(frozen=True)
class Predictions:
    """The answers for N readable images of K classes, in the order of the files."""

    files: list[str]  # [N]
    classes: tuple[str, ...]  # [K]
    top: np.ndarray  # int64 [N, k]: the most probable classes, best first; of equal ones the lower number first
    probability: np.ndarray  # float64 [N, k]
    failed: list[tuple[str, str]]  # the other files, each with the reason
    target: np.ndarray | None = None  # int64 [N]
    confusion: np.ndarray | None = None  # int64 [K, K]: rows are true classes
    logits: np.ndarray | None = None  # float32 [N, K], where they are kept

    @property
    def accuracy(self) -> float | None:
        """In [0, 1]; None without labels, and without an image."""
        if self.confusion is None or not self.files:
            return None
        return float(np.trace(self.confusion) / len(self.files))


def classify(
    network: Network,
    files: Sequence[str],
    targets: np.ndarray | None = None,
    top: int = 3,
    batch: int | None = None,
    keep_logits: bool = False,
) -> Predictions:
    """Return the answers of ``network`` for ``files``; a progress bar shows on a terminal.

    Args:
        targets: int64 [len(files)], the true classes; None: unknown.
        top: how many classes are kept of each image, at most K.
        batch: images that the network gets at a time; None: as many as in the evaluation of its run. Rounding differs
            with it.
        keep_logits: keep all logits as well.

    Raises:
        ValueError: the network gives logits that are not finite, or not one for each class.
    """
    description, failed = network.description, {}
    classes, size = len(description.classes), batch or min(description.eval_batch, EVAL_BATCH)
    rows, tops, chances, kept = [], [], [], []
    counts = None if targets is None else np.zeros((classes, classes), np.int64)
    read = partial(stored_pixels, description=description)
    batches = decode_batches(files, read, size, failed, ahead_of(description.stored_size))
    memory = explain_out_of_memory("predict", f"--batch {size}", "a smaller --batch")
    with silence_libraries() as terminal, closing(batches), memory:
        bar = tqdm(None, "predict", len(files), unit=" images", disable=None, file=terminal, leave=False)
        with bar:
            for decoded in batches:
                logits = network.logits(decoded.pixels)
                _check(logits, classes, network.name, files[decoded.rows[0]])
                order = np.argsort(-logits, 1, kind="stable")[:, :top]
                rows += decoded.rows
                tops.append(order)
                chances.append(np.take_along_axis(probabilities(logits), order, 1))
                if keep_logits:
                    kept.append(logits)
                if counts is not None:
                    counts += confusion(logits, targets[decoded.rows])
                bar.update(decoded.tried)
    width = min(top, classes)
    return Predictions(
        files=[files[row] for row in rows],
        classes=description.classes,
        top=np.concatenate([np.zeros((0, width), np.int64), *tops]),
        probability=np.concatenate([np.zeros((0, width)), *chances]),
        failed=[(files[row], reason) for row, reason in sorted(failed.items())],
        target=None if targets is None else targets[rows],
        confusion=counts,
        logits=np.concatenate([np.zeros((0, classes), np.float32), *kept]) if keep_logits else None,
    )


def _check(logits: np.ndarray, classes: int, name: str, file: str) -> None:
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ValueError(f"{name} gives answers of shape {list(logits.shape)} and names {classes} classes")
    if not np.isfinite(logits).all():
        raise ValueError(f"{name} gives logits that are not finite, from {printable(file)} on: its file is damaged")
