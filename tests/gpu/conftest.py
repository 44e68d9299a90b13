"""Tests on a CUDA device: ``pytest -m gpu``. Without one they are skipped, and the last line says so.

``KD_GPU_TESTS_DEVICE=cpu pytest -m gpu`` runs them on the CPU, to try the tests themselves: what only a GPU can show
(transfers, memory) is left out then. docs/gpu.md says where and when they ran.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from kd.runtime.device import Device, resolve_device

CHOSEN = os.environ.get("KD_GPU_TESTS_DEVICE", "cuda")
REASON = "no CUDA device"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if REASON in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{REASON}: {len(skipped)} tests of tests/gpu were skipped")


@pytest.fixture(scope="session")
def place() -> str:
    """The device's name, as ``train.device`` takes it."""
    if CHOSEN.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip(REASON)
    return CHOSEN


@pytest.fixture(scope="session")
def device(place) -> Device:
    return resolve_device(place)


@pytest.fixture(scope="session")
def exact(place) -> Device:
    """The device in float32, to compare with the CPU."""
    return resolve_device(place, "float32")


@pytest.fixture(scope="session")
def on_gpu(place) -> bool:
    return place.startswith("cuda")


@contextmanager
def no_waiting(on_gpu: bool) -> Iterator[None]:
    """Raise an error where the host waits for the device, e.g. for a copy from pageable memory or for ``.item()``."""
    if not on_gpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def only_deterministic() -> Iterator[None]:
    """Raise an error where torch has no deterministic kernel, of which training only warns."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
