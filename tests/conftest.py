"""Shared by the tests: a small data set of real pixels, a device, and the golden numbers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("WANDB_MODE", "offline")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # in a script's background job; child processes would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel, each on its own core

GOLDEN = Path(__file__).parent / "golden"
CONF = Path(__file__).parents[1] / "conf"
TINY = [  # overrides for a whole run in seconds
    "data.train_images=150",
    "data.test_images=60",
    "data.image_size=16",
    "data.val_fraction=0.2",
    "student.width=0.25",
    "train.batch_size=32",
    "teacher.allow_weak=true",  # after seconds of training it may be below the majority class
]


def weights_in(path: Path) -> bytes:
    """Return a safetensors file without what it says of its run, as the store holds it."""
    from safetensors.torch import load_file, save  # imports torch

    return save(load_file(path))


# files of a finished run that are written again when latencies from a busy machine are measured again
TIMES = ("result.json", "sizes.json", "report.md", "figures")


def stamps(folder: Path, pattern: str = "*") -> dict[Path, int]:
    """Return when each file below was written, except files that depend on latencies."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and not set(TIMES) & {*path.parts}]
    return {path: path.stat().st_mtime_ns for path in files}


LONG = ("test_chaos", "test_run", "test_callback", "test_zoo", "test_rubbish", "test_distributed", "test_contract")


def pytest_collection_modifyitems(items):
    """Run the long files first: a process that starts one last makes the others wait."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def options(group: str) -> list[str]:
    """Return every option of a config group that has a yaml file; a new file is tested automatically."""
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
    from kd.data.datasets.scenes.dataset import load
    from kd.store.store import Store

    store = Store(tmp_path_factory.mktemp("store"))
    return open_data(load, store, train_images=120, test_images=60, image_size=16, val_fraction=0.2)


def open_data(load, store, image_size=28, **settings):
    """Call a data set's ``load``; settings of ``Sizing`` go there."""
    from kd.data.sizing import Sizing

    sizing = {name: settings.pop(name) for name in ("stored_size", "fit", "crop_pct") if name in settings}
    return load(store, Sizing(image_size, **sizing), **settings)


def teacher_logits(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, classes)).astype(np.float32)
