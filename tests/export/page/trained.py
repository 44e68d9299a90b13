"""A small student, trained for seconds on drawn scenes, with its page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kd.data.dataset import ImageDataset
from kd.data.datasets.scenes.dataset import load
from kd.data.sizing import Sizing
from kd.export.onnx_file import write_onnx
from kd.export.program import to_program
from kd.inference.description import Description
from kd.inference.model import Model
from kd.inference.preprocess import shown
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.store.store import Store


class Trained(NamedTuple):
    dataset: ImageDataset
    student: Model
    baseline: Model
    predictions: dict[str, np.ndarray]  # as in predictions.npz; the student is its own teacher


def train(folder: Path, size: Sizing, train_images: int = 300, test_images: int = 60, steps: int = 60) -> Trained:
    """Draw scenes and train a student; the baseline is the same after a quarter of the steps."""
    dataset = load(Store(folder), size, train_images=train_images, test_images=test_images)
    description = Description(
        network={"network": {"_target_": "kd.models.tiny_cnn.TinyCNN"}},
        classes=dataset.classes,
        image_size=size.image_size,
        stored_size=size.stored,
        name="scenes-tiny_cnn",
        key="f4e8dc4af5",
        data="scenes",
        fit=size.fit,
        crop_pct=size.crop_pct,
    )
    torch.manual_seed(0)
    network = Normalized(TinyCNN(len(dataset.classes), size.image_size, 0.5), dataset.mean, dataset.std)
    early = Normalized(TinyCNN(len(dataset.classes), size.image_size, 0.5), dataset.mean, dataset.std)
    optimizer = torch.optim.Adam(network.train().parameters(), 0.01)
    for step in range(steps):
        if step == steps // 4:
            early.load_state_dict(network.state_dict())
        rows = dataset.train[torch.randint(len(dataset.train), (48,)).numpy()]
        loss = F.cross_entropy(
            network(shown(dataset.images[rows], description)), torch.from_numpy(dataset.targets[rows])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student, baseline = Model(network, description), Model(early, description)
    images = shown(dataset.images[dataset.test], description)
    logits = {role: model(images).numpy() for role, model in {"student": student, "baseline": baseline}.items()}
    answers = {"index": dataset.test, "target": dataset.targets[dataset.test], "teacher": logits["student"], **logits}
    return Trained(dataset, student, baseline, answers)


def export(network: nn.Module, description: Description, deploy: Path) -> None:
    """Write ``student.onnx`` as ``kd.export`` does."""
    deploy.mkdir(parents=True, exist_ok=True)
    write_onnx(to_program(network, description.image_size), deploy / "student.onnx", description)


@contextmanager
def served(folder: Path, slow: str = "") -> Iterator[str]:
    """Serve a folder as ``python -m http.server`` does, and return its address.

    Args:
        slow: name of a file that comes a second late, as over a weak connection.
    """

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            time.sleep(1 if slow and self.path == f"/{slow}" else 0)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
