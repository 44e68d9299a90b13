"""A finished run, made once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import TINY, compose

QUICK = (*TINY, "train.teacher.epochs=1", "train.student.epochs=3", "latency.seconds=0.02", "report=false")
CHOICES = {"data": "scenes", "augment": "light", "attention": "none", "teacher": "tiny_cnn", "student": "tiny_cnn"}
CHOICES |= {"kd": "hinton", "train": "default", "tracking": "disabled"}


def make_run(outputs: Path, *overrides: str, base: Sequence[str] = QUICK) -> Path:
    """Make a small run in this process and return its folder."""
    from kd.pipeline.execute import run

    usual = ("teacher=tiny_cnn", "attention=none", "baseline=false", "tracking=disabled", f"outputs={outputs}")
    return run(compose(*base, *usual, *overrides), CHOICES).folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """A run on drawn scenes of 16 pixels, in an outputs folder."""
    return make_run(tmp_path_factory.mktemp("export") / "outputs")
