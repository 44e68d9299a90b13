"""train.precision=auto: tried once per machine and version of torch, then kept."""

import json

import pytest
import torch

from kd.pipeline import precision
from kd.pipeline.precision import choose_precision
from kd.runtime.distributed import SINGLE_PROCESS
from kd.store.store import Store

CPU = torch.device("cpu")


@pytest.fixture
def tried(monkeypatch):
    calls = []
    monkeypatch.setattr(precision, "prefers_bfloat16", lambda device: calls.append(device) or len(calls) == 1)
    return calls


def test_the_choice_is_kept_and_another_torch_tries_again(tmp_path, tried, monkeypatch):
    store = Store(tmp_path)
    chosen = [choose_precision("auto", CPU, store, SINGLE_PROCESS) for _ in range(3)]
    assert chosen == ["bfloat16"] * 3 and len(tried) == 1
    (kept,) = (tmp_path / "machines").glob("*/precision.json")
    assert json.loads(kept.read_text())["torch"] == torch.__version__
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert choose_precision("auto", CPU, store, SINGLE_PROCESS) == "float32" and len(tried) == 2


def test_a_precision_that_was_set_is_not_tried(tmp_path, tried):
    assert choose_precision("float32", CPU, Store(tmp_path), SINGLE_PROCESS) == "float32"
    assert not tried and not list(tmp_path.iterdir())
