"""The dashboard: its panels name what the tracker logs, and the server accepts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.dashboard import main
from kd.tracking.workspace import build_workspace
from tests.tracking.scenario import ROOT, play
from tests.tracking.wandb_file import read_runs
from tests.tracking.wandb_server import Server

SCENARIO = """
from kd.tracking.sweep_report import publish_report
from PIL import Image

merits = {"accuracy": 0.8, "macro_f1": 0.8, "nll": 0.5, "ece": 0.1, "params": 94470, "macs": 23, "size_mb": 0.36,
          "latency_ms": {"batch_1": {"p50": 0.7, "p95": 0.8}}, "throughput": 2900.0,
          "training": {"best_epoch": 3, "best_val_accuracy": 0.85}}
result = {"teacher": merits, "student": merits, "baseline": merits,
          "comparison": {"accuracy_gain": 0.02, "agreement": 0.8, "speed_up": {"batch_1": 9.1}}}
config = {"kd.temperature": 4.0, "kd.alpha": 0.9, "student.width": 1, "seed": 0, "teacher.seed": 0}
config |= {f"choices.{group}": "any" for group in ("data", "teacher", "attention", "student", "kd")}
root.mkdir()
Image.new("RGB", (40, 20), "red").save(root / "figure.png")
with tracker("cell", config=config, job_type="distill", group="study") as t:
    for stage in ("teacher", "baseline"):
        t.sibling(stage, run_id=f"id-{stage}", name=stage)
    for stage in ("teacher", "baseline", "student"):
        rows(t, stage, 2)
    figures = {f"confusion_{name}": root / "figure.png" for name in ("teacher", "student", "baseline", "difference")}
    t.finish(result, figures, {"teacher_vs_student": [{"metric": "accuracy"}], "per_class": [{"class": "sea"}]}, {})
figures = {name: root / "figure.png" for name in ("accuracy", "nll", "ece", "agreement", "curves", "fronts",
                                                        "confusions")}
publish_report(root, run_id="id-report", name="report", config={}, figures=figures, tables={}, summary={})
"""
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # in wandb-workspaces
NAMED = {"metrics", "xAxis", "yAxis", "zAxis", "groupBy", "accessor", "mediaKeys", "targetKey", "columnOrder"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    done, _ = play(folder, SCENARIO)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return read_runs(folder / "outputs")


@pytest.fixture(scope="module")
def spec():
    pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")
    return build_workspace("lab", "kd", "Distillation")._to_model().model_dump(by_alias=True, exclude_none=True)["spec"]


def names(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, name) of everything in a spec that names something logged."""
    if isinstance(node, dict):
        for inner, value in node.items():
            yield from names(value, inner)
        if node.get("type") == "string" and "val" in node:  # the table of a Weave panel
            yield "table", node["val"]
    elif isinstance(node, list):
        for value in node:
            yield from names(value, key)
    elif isinstance(node, str) and key in NAMED:
        yield key, node


def test_every_name_of_the_dashboard_is_one_that_the_tracker_logs(runs, spec):
    cell = runs["id-cell"]
    summary = {name for run in runs.values() for name in run.summary}
    history = {name for run in runs.values() for row in run.history for name in row}
    found = set(names(spec["section"]["panelBankConfig"])) | set(names(spec["section"]["runSets"]))
    assert len(found) > 30
    assert {"temperature.value", "alpha.value", "jobType"} <= {name for key, name in found if key == "groupBy"}
    for key, name in sorted(found):
        if name in ("jobType", "run:jobType", "run:displayName", "_step"):
            continue
        if name.startswith("config:") or name.endswith(".value"):
            name = name.removeprefix("config:")
            assert name.removesuffix(".value") in cell.config and name.count(".") == 1, f"{key} {name}"
        elif name.startswith("summary:") or key in ("targetKey", "mediaKeys", "table"):
            assert name.removeprefix("summary:") in summary, f"{key} {name}"
        else:
            assert name in history | summary, f"{key} {name}"


def test_the_scores_of_every_job_type_have_the_same_names(runs):
    for run in ("id-cell", "id-teacher", "id-baseline"):
        assert runs[run].summary["test/accuracy"] == 0.8 and runs[run].summary["cost/latency_ms"] == 0.7


def test_the_sections(spec):
    sections = [section["name"] for section in spec["section"]["panelBankConfig"]["sections"]]
    for word, section in zip(("Teacher", "alpha", "Pareto", "Confusion", "against"), sections, strict=True):
        assert word in section


def dashboard(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", "kd.dashboard", *arguments],
        cwd=folder,
        env=clean | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_is_saved_on_the_server_and_a_dry_run_asks_no_server(tmp_path, spec, monkeypatch, capsys):
    with Server() as server:
        done = dashboard(tmp_path, "--project", "kd", "--name", "Mine", **server.environment())
        assert done.returncode == 0, done.stderr
        (view,) = server.views
        assert view["displayName"] == "Mine" and view["entityName"] == "lab", "the account's own entity"
        saved, built = (
            [len(section["panels"]) for section in whole["section"]["panelBankConfig"]["sections"]]
            for whole in (json.loads(view["spec"]), spec)
        )
        assert saved == built
        assert f"{server.url}/lab/kd?nw=" in done.stdout
        asked = len(server.asked)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert main(["--dry-run", "--entity", "me"]) == 0 and len(server.asked) == asked
    out = capsys.readouterr().out
    assert "me/kd" in out and "Pareto" in out and "ParallelCoordinatesPlot" in out


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--project", "my/proj:1"], {}, r"--project must be text in one line without / \ # ? % :, of 1 to 128"),
        (["--project", ""], {}, "--project must be text"),
        (["--project", "p" * 129], {}, "128 characters"),
        (["--entity", "me/kd"], {}, "--entity must be text"),
        (["--name", ""], {}, "--name must be text"),
        ([], {"WANDB_PROJECT": "a/b"}, "--project must be text"),
    ],
)
def test_a_name_that_wandb_does_not_take_is_refused(arguments, environment, message, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([*arguments, "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("kd.dashboard: ") and message in err and err.count("\n") == 1


def test_project_and_entity_default_to_the_environment(monkeypatch, capsys, spec):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    assert main(["--dry-run"]) == 0 and "us/mine" in capsys.readouterr().out
    assert main(["--dry-run", "--project", "other"]) == 0 and "us/other" in capsys.readouterr().out


def test_without_a_key_it_says_so(tmp_path, spec):
    done = dashboard(tmp_path)
    assert done.returncode == 2 and "wandb login" in done.stderr and "Traceback" not in done.stderr


def test_without_the_extra_it_says_so_in_one_sentence(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb_workspaces"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for arguments in (["--dry-run"], []):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and 'pip install -e ".[dashboard]"' in err
