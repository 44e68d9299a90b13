"""An exported folder joins the W&B run of its run, online or offline and later synced; an untracked run is left alone.

The real wandb, and a stand-in server on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kd.tracking.deploy import MOVED, deploy_numbers, log_deploy
from tests.tracking.scenario import play
from tests.tracking.wandb_file import read_run
from tests.tracking.wandb_server import Server

KEY = "0123456789abcdef0123456789"
ID = KEY[:20]
TIMES = {"p50": 0.31, "p95": 0.5, "calm": True}
REPORT = {
    "torch": {"accuracy": 0.8, "nll": None, "latency_ms": {"all_threads": {"batch_1": TIMES, "batch_64": None}}},
    "folded": None,
    "files": [
        {
            **{"file": "student.onnx", "accuracy": 0.81, "agreement": 1.0, "size_bytes": 4000, "ships": True},
            "latency_ms": {"one_thread": {"batch_1": TIMES, "batch_64": {**TIMES, "calm": False}}},
        },
        {"file": "student.mlpackage", "accuracy": None, "latency_ms": None, "ships": None},
    ],
}
NUMBERS = {
    **{"torch/accuracy": 0.8, "torch/latency_ms/all_threads/batch_1": 0.31},
    **{"student.onnx/accuracy": 0.81, "student.onnx/agreement": 1.0, "student.onnx/size_bytes": 4000},
    **{"student.onnx/ships": True, "student.onnx/latency_ms/one_thread/batch_1": 0.31},
}
RUN = f"""
import json
from kd.tracking.deploy import log_deploy
run = root / "runs" / "the-run"
deploy = run / "deploy"
(deploy / "page").mkdir(parents=True)
(deploy / "student.onnx").write_bytes(b"onnx" * 1000)
(deploy / "page" / "index.html").write_text("<!doctype html>")
(root / "student.safetensors").write_bytes(b"weights" * 1000)
report = json.loads({json.dumps(json.dumps(REPORT))})

def make(mode):
    settings = {{"seed": 0, "outputs": "elsewhere", "data.root": "/home/somebody/pictures", "tracking.mode": mode,
                "tracking.project": "kd-test", "tracking.group": "study", "tracking.tags": ["one"],
                "tracking.entity": None, "tracking.timeout": 2}}
    result = {{"key": "{KEY}", "name": "the-run", "choices": {{"kd": "hinton"}}, "settings": settings,
              "student": {{"accuracy": 0.8, "nll": 0.5}}, "comparison": {{"agreement": 0.9}}}}
    (run / "result.json").write_text(json.dumps(result))
    about = {{"config": settings | {{"choices.kd": "hinton"}}, "group": "study", "job_type": "distill"}}
    with Tracker(run, root=root, run_id="{ID}", name="the-run", project="kd-test", mode=mode, timeout=5, **about) as t:
        rows(t, "student", 3)
        t.finish(result, {{}}, {{}}, {{"student": root / "student.safetensors"}})
"""


def test_the_numbers_of_a_report_are_flat_and_unknown_ones_are_left_out():
    assert deploy_numbers(REPORT) == NUMBERS
    assert deploy_numbers({}) == {}


@pytest.mark.parametrize("twice", [False, True])
def test_online_the_folder_is_an_artifact_of_the_run_and_its_metrics_stay(tmp_path, twice):
    with Server() as server:
        scenario = RUN + "make('online')\nprint(log_deploy(run, deploy, report))\n"
        if twice:
            scenario += (
                "(deploy / 'student.onnx').write_bytes(b'more' * 1000)\nprint(log_deploy(run, deploy, report))\n"
            )
        done, _ = play(tmp_path, scenario, **server.environment())
        assert done.returncode == 0, done.stderr
        assert f"W&B: deploy/ is the artifact deploy-{ID} of its run; look: http" in done.stdout
        assert "send:" not in done.stdout
        run = server.runs[ID]
        found = [artifact for artifact in server.artifacts.values() if artifact.name == f"deploy-{ID}"]
        assert len(found) == 1 + twice
        _check(server, run, found[-1], b"more" * 1000 if twice else b"onnx" * 1000)


def test_a_run_that_was_copied_away_leaves_the_files_of_the_original_alone(tmp_path):
    scenario = RUN.replace('"outputs": "elsewhere"', '"outputs": str(root)')
    scenario += "make('offline')\nlog_deploy(run, deploy, report)\n"
    scenario += "import shutil\nshutil.copytree(run, root.parent / 'other/runs/the-run')\n"
    scenario += "copy = root.parent / 'other/runs/the-run'\nprint(log_deploy(copy, copy / 'deploy', report))\n"
    done, _ = play(tmp_path, scenario)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == MOVED
    assert len(list((tmp_path / "outputs/wandb").glob(f"offline-run-*-{ID}*"))) == 2, "the segment of the original"


def test_offline_both_segments_make_one_run(tmp_path):
    scenario = RUN + "make('offline')\nfor _ in (1, 2):  # the second export takes the place of the first\n"
    done, _ = play(tmp_path, scenario + "    print(log_deploy(run, deploy, report))\n")
    assert done.returncode == 0, done.stderr
    command = done.stdout.rpartition("send: wandb sync ")[2].split()
    assert len(command) == 2 and done.stderr == ""
    assert len(list((tmp_path / "outputs/wandb").glob(f"offline-run-*-{ID}*"))) == 2
    first, second = sorted(tmp_path / folder for folder in command)
    assert read_run(first).history
    before = read_run(second)
    assert before.history == [] and before.id == ID and before.project == "kd-test" and before.exit_code == 0
    assert sorted(before.artifacts[f"deploy-{ID}"]["files"]) == ["page/index.html", "student.onnx"]
    (tmp_path / "outputs/runs/the-run/deploy/student.onnx").write_bytes(b"a later export")
    with Server() as server:
        environment = os.environ | server.environment() | {"HOME": str(tmp_path / "home")}
        sync = [sys.executable, "-m", "wandb", "sync", *command]
        done = subprocess.run(sync, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        _check(server, server.runs[ID], server.artifact(f"deploy-{ID}"), b"onnx" * 1000)


def _check(server, run, artifact, onnx: bytes) -> None:
    assert artifact.state == "COMMITTED" and artifact.type == "model" and artifact.run == ID
    assert artifact.files["student.onnx"] == onnx and artifact.files["page/index.html"] == b"<!doctype html>"
    assert artifact.metadata == {**NUMBERS, "student/accuracy": 0.8, "student/nll": 0.5, "choices/kd": "hinton"}
    assert [row["student/loss"] for row in run.history if "student/loss" in row] == [1.0, 0.5, 1 / 3]
    summary = {name: value for name, value in run.summary.items() if name.startswith("deploy/")}
    assert summary == {f"deploy/{name}": value for name, value in NUMBERS.items()}
    assert run.summary["test/accuracy"] == 0.8 and run.summary["comparison/agreement"] == 0.9
    assert run.config["choices.kd"] == "hinton" and run.config["data.root"] == "pictures"
    assert (run.project, run.group, run.job_type, run.exit_code) == ("kd-test", "study", "distill", 0)
    assert b"/home/somebody" not in b"".join(server.heard)


def test_a_server_that_went_away_leaves_it_offline(tmp_path):
    with Server() as server:
        switch = (
            "import urllib.request\nurllib.request.urlopen(os.environ['WANDB_BASE_URL'] + '/switch?down=1').read()\n"
        )
        scenario = RUN + "make('online')\n" + switch + "print(log_deploy(run, deploy, report))\n"
        done, _ = play(tmp_path, scenario, **server.environment())
        assert done.returncode == 0, done.stderr
        assert "send: wandb sync" in done.stdout and not any(
            a.name.startswith("deploy") for a in server.artifacts.values()
        )
        command = done.stdout.partition("send: wandb sync ")[2].split()
        server.down = False
        environment = os.environ | server.environment() | {"HOME": str(tmp_path / "home")}
        sync = [sys.executable, "-m", "wandb", "sync", *command]
        assert subprocess.run(sync, env=environment, cwd=tmp_path, capture_output=True, timeout=100).returncode == 0
        _check(server, server.runs[ID], server.artifact(f"deploy-{ID}"), b"onnx" * 1000)


def test_a_run_that_was_not_tracked_is_left_alone(tmp_path):
    assert log_deploy(tmp_path, tmp_path, REPORT) is None  # no result.json
    done, _ = play(tmp_path, RUN + "make('disabled')\nprint(log_deploy(run, deploy, report), 'wandb' in sys.modules)\n")
    assert done.stdout.split() == ["None", "False"], done.stderr
    assert not (tmp_path / "outputs/wandb").exists()


def test_another_job_that_logs_the_run_is_not_disturbed(tmp_path):
    scenario = RUN + (
        "make('offline')\n"
        "from kd.tracking.claim import Claim\n"
        f"claim = Claim(root, None, 'kd-test', '{ID}', None)\n"
        "claim.lock()\n"
        "print(log_deploy(run, deploy, report))\n"
    )
    done, _ = play(tmp_path, scenario)
    assert "another job is logging this run" in done.stdout, done.stderr
    assert len(list((tmp_path / "outputs/wandb").glob(f"offline-run-*-{ID}"))) == 1
