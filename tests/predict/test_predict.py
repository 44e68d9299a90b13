"""python -m kd.predict: the bits of the run, all that can be wrong with files, and every form of the answers."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from kd.evaluation.metrics import probabilities
from tests.predict.conftest import CLASSES, COUNT


@pytest.mark.parametrize("role", ["student", "teacher", "baseline"])
def test_the_logits_on_the_test_images_are_the_runs_own_bits(run_folder, tree, tmp_path, predict_json, role):
    recorded = np.load(run_folder / "predictions.npz")
    code, found, err = predict_json(
        run_folder, tree / "test", "--labels", "--model", role, "--logits", tmp_path / "out.npz"
    )
    assert (code, err) == (0, "")
    ours = np.load(tmp_path / "out.npz")
    assert ours["logits"].dtype == np.float32 and ours["logits"].tobytes() == recorded[role].tobytes()
    assert (ours["target"] == recorded["target"]).all()
    assert ours["file"].tolist() == [each["file"] for each in found["pictures"]]
    chances = probabilities(recorded[role])
    for each, chance, target in zip(found["pictures"], chances, recorded["target"], strict=True):
        assert each["label"] == CLASSES[target] if list(CLASSES) == found["classes"] else True
        assert [top["probability"] for top in each["top"]] == sorted(chance, reverse=True)
        assert each["top"][0]["class"] == found["classes"][chance.argmax()]
    result = json.loads((run_folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result[role]["accuracy"]) and found["key"] == result["key"]
    assert found["confusion"] == result[role]["confusion"] and found["classes"] == result["data"]["classes"]
    assert np.sum(found["confusion"], 1).tolist() == [COUNT["test"]] * len(CLASSES)


def test_grey_images_too(grey, tmp_path, predict):
    folder, files = grey
    assert predict(folder, files, "--csv", "--logits", tmp_path / "out.npz")[0] == 0
    ours, recorded = np.load(tmp_path / "out.npz"), np.load(folder / "predictions.npz")
    assert ours["logits"].tobytes() == recorded["student"].tobytes() and "target" not in ours
