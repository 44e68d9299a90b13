"""What tests share: a small data set of real pixels, a machine, and the golden numbers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("WANDB_MODE", "offline")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script's background job, whose children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several tests at once, each on a core of its own

GOLDEN = Path(__file__).parent / "golden"
CONF = Path(__file__).parents[1] / "conf"
TINY = [  # overrides of a whole run that is over in seconds
    "data.train_images=150",
    "data.test_images=60",
    "data.image_size=16",
    "data.val_fraction=0.2",
    "student.width=0.25",
    "train.batch_size=32",
    "teacher.allow_weak=true",  # seconds of training may leave it below the commonest class
]


# of a finished run: what is written again where its latencies were taken on a busy machine and are taken again
TIMES = ("result.json", "sizes.json", "report.md", "figures")


def stamps(folder: Path, pattern: str = "*") -> dict[Path, int]:
    """When each file below was written, but for those that only say how long something takes."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and not set(TIMES) & {*path.parts}]
    return {path: path.stat().st_mtime_ns for path in files}


LONG = ("test_chaos", "test_run", "test_callback", "test_zoo", "test_rubbish", "test_distributed", "test_contract")


def pytest_collection_modifyitems(items):
    """The long files first: whoever runs one last lets the other processes wait."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def options(group: str) -> list[str]:
    """Every yaml of a config group: a new option is enrolled by being there."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose(*overrides: str):
    from hydra import compose, initialize_config_dir

    import kd.run  # noqa: F401  registers the resolvers

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.fixture(scope="session")
def machine():
    from kd.runtime.device import resolve_device

    return resolve_device("cpu", "float32")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """120 + 60 drawn scenes at 16 pixels: real images, quick to learn a little from."""
    from kd.data.augment import Augment
    from kd.data.datasets.scenes.dataset import load
    from kd.store.store import Store

    store = Store(tmp_path_factory.mktemp("store"))
    return load(store, Augment(flip=0.5, shift=0.1), train_images=120, test_images=60, image_size=16, val_fraction=0.2)


def teacher_logits(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, classes)).astype(np.float32)
