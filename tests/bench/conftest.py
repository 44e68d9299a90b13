"""One small setup for all tests of the benchmark."""

from __future__ import annotations

import pytest

from kd.bench.setting import Setting, Setup, set_up
from kd.bench.torch_state import torch_state

TINY = ("teacher=tiny_cnn", "student.width=0.25", "latency.seconds=0.02")


@pytest.fixture(scope="session")
def plain() -> dict[str, object]:
    return torch_state()


@pytest.fixture(scope="session")
def setup(tmp_path_factory, plain) -> Setup:
    folder = str(tmp_path_factory.mktemp("bench"))
    return set_up(Setting(folder, TINY, images=24, batch_size=8, image_size=32, workers=1, students=3))
