"""``python -m kd.diagnose``: the text, the JSON, older runs, and files that are wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd.diagnose.__main__ import main
from kd.diagnose.text import WIDTH
from kd.evaluation.metrics import accuracy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(healthy, tmp_path) -> Path:
    """A copy of the healthy run, to be damaged."""
    return Path(shutil.copytree(healthy, tmp_path / "copy"))


def test_the_text_has_verdict_and_all_tables(healthy, capsys):
    assert main([str(healthy)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{healthy.name}\n\nDistillation helps: ")
    titles = ("Accuracy", "The teacher's answers at T = 2, in percent", "Agreement with the teacher")
    assert all(f"\n{title}\n" in text for title in (*titles, "Gradient of each weighted term on the student"))
    assert "that is all that can be gained from it." in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_json_agrees_with_the_files(healthy, capsys):
    assert main([str(healthy), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    result = json.loads((healthy / "result.json").read_text("utf-8"))
    with np.load(healthy / "training_views.npz") as arrays:
        views = {role: accuracy(arrays[role], arrays["target"]) for role in ("teacher", "student", "baseline")}
    figures = said["figures"]
    assert said["key"] == result["key"] and said["findings"] == [] and said["remarks"] == []
    for role, share in views.items():
        expected = {
            "views": share,
            "test": result[role]["accuracy"],
            "val": result[role]["training"]["best_val_accuracy"],
        }
        assert figures["accuracy"][role] == pytest.approx(expected)
    assert figures["gain"]["accuracy"] == pytest.approx(result["comparison"]["accuracy_gain"])
    assert figures["gain"]["p"] == pytest.approx(result["comparison"]["mcnemar_p"])
    assert figures["agreement"]["student"]["test"] == pytest.approx(result["comparison"]["agreement"])
    assert figures["answers"]["test"]["ece"] == pytest.approx(result["teacher"]["ece"])
    heard = {"hard": {"key": "kd.weights.hard", "mixes": False}, "soft": {"key": "kd.alpha", "mixes": True}}
    assert figures["objective"] == {
        **{"reads": ["logits"], "label_terms": ["hard"], "temperature": 2.0, "weight_settings": heard},
        **{"shares": {"soft": 1.0}, "takes_mixtures": True, "takes_unlabelled": True},
    }
    right = {
        role: (arrays := np.load(healthy / "predictions.npz"))[role].argmax(1) == arrays["target"] for role in views
    }
    offered = right["teacher"] & ~right["baseline"]
    assert figures["gain"]["won"] == np.flatnonzero(offered & right["student"]).tolist() != []
    assert figures["gain"]["not_won"] == np.flatnonzero(offered & ~right["student"]).tolist() != []
    assert [set(at["terms"]) for at in figures["gradients"]] == [{"hard", "soft"}] * len(figures["gradients"])
    assert figures["gradients"][0]["progress"] == 0


def test_an_older_run_is_diagnosed_without_what_it_lacks(copy, capsys):
    (copy / "training_views.npz").unlink()
    result = json.loads((copy / "result.json").read_text("utf-8"))
    del result["objective"]
    (copy / "result.json").write_text(json.dumps(result), "utf-8")
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text("utf-8").splitlines()]
    kept = ({name: value for name, value in row.items() if name != "gradients"} for row in rows)
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
    assert main([str(copy)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Distillation helps" in text and "at T = 2" in text
    assert "has no training_views.npz, because an older version made it" in text
    assert "The gradients of its terms were not measured" in text and "training views – " not in text


def test_a_run_without_a_baseline_cannot_say_what_was_gained(make, capsys):
    assert main([str(make("baseline=false"))]) == 0
    text = capsys.readouterr().out
    assert "Without a baseline a run cannot say" in text and "can be gained" not in text


@pytest.mark.parametrize(("name", "message"), [("result.json", "is missing"), ("training_views.npz", "cannot be read")])
def test_a_missing_or_damaged_file_is_named(copy, capsys, name, message):
    path = copy / name
    path.unlink() if message == "is missing" else path.write_bytes(path.read_bytes()[:99])
    assert main([str(copy)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.search(f"kd.diagnose: .*{name} {message}", printed.err)


def test_views_of_another_run_are_refused(copy, capsys):
    with np.load(copy / "training_views.npz") as arrays:
        views = {name: arrays[name] for name in arrays.files}
    np.savez(copy / "training_views.npz", **views | {"student": views["student"][:5]})
    assert main([str(copy), str(copy / "nowhere")]) == 2
    errors = capsys.readouterr().err
    assert f'the array "student" has shape [5, 6]; [{len(views["target"])}, 6] would be right' in errors
    assert "nowhere is not a folder" in errors


def test_it_starts_without_torch():
    code = "import sys, kd.diagnose.__main__; print(sorted({'torch', 'matplotlib', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
