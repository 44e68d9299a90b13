"""Real runs of a good teacher and a student with few, noisy labels: a healthy one, and others made ill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import compose

COMMON = (
    *("data.image_size=32", "data.val_fraction=0.15", "teacher=tiny_cnn", "teacher.width=1.0", "student=tiny_cnn"),
    *("student.width=0.25", "train.batch_size=32", "train.precision=float32", "latency.seconds=0.01"),
    *("latency.batch=2", "report=false", "tracking=disabled", "teacher.allow_weak=true"),
)
ELSEWHERE = (  # where the teacher learned: more images than the student has, and right labels
    *("data.train_images=700", "data.test_images=60", "data.drawing_seed=1", "data.label_noise=0"),
    *("train.teacher.epochs=8", "train.student.epochs=1", "baseline=false"),
)
STUDENT = ("data.train_images=300", "data.test_images=400", "data.label_noise=0.4", "train.student.epochs=12")


@dataclasses.dataclass
class Runs:
    """Makes runs in one store, so that they share images, teacher and baseline."""

    outputs: Path
    made: dict[tuple[str, ...], Path] = dataclasses.field(default_factory=dict)

    def __call__(self, *overrides: str) -> Path:
        """Return the folder of the run of the good teacher with these overrides."""
        own = () if any(each.startswith("kd=") for each in overrides) else ("kd.alpha=0.95",)
        return self.run(*STUDENT, f"teacher.checkpoint={self.teacher()}", *own, *overrides)

    def run(self, *overrides: str) -> Path:
        """Return the folder of a run without that teacher."""
        from kd.pipeline.execute import run

        if overrides not in self.made:
            kd = next((each.removeprefix("kd=") for each in overrides[::-1] if each.startswith("kd=")), "hinton")
            choices = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": kd}
            self.made[overrides] = run(compose(*COMMON, f"outputs={self.outputs}", *overrides), choices).folder
        return self.made[overrides]

    def teacher(self) -> Path:
        self.run(*ELSEWHERE)
        return next((self.outputs / "teachers").glob("*/network.safetensors"))


@pytest.fixture(scope="session")
def make(tmp_path_factory) -> Callable[..., Path]:
    return Runs(tmp_path_factory.mktemp("ill"))


@pytest.fixture(scope="session")
def healthy(make) -> Path:
    """A run in which distillation works. Read only."""
    return make()
