"""Runs under a ``wandb agent``, with the real wandb and a stand-in server on 127.0.0.1.

An agent starts a process with WANDB_SWEEP_ID, WANDB_RUN_ID, WANDB_SWEEP_PARAM_PATH and more in its environment. wandb
applies them to every run of the process and ignores its caller.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kd.tracking.names import NETWORK_SUMMARY
from tests.conftest import TINY
from tests.quickly import run
from tests.tracking.scenario import ROOT, metrics, play
from tests.tracking.wandb_file import read_runs
from tests.tracking.wandb_server import ENTITY, Server

PAGE = ROOT / "docs" / "tracking.md"
QUICK = [*TINY, "teacher=tiny_cnn", "teacher.width=1", "train.teacher.epochs=1", "train.student.epochs=1"]
QUICK += ["report=false", "latency.seconds=0.005", "train.threads=1", "tracking=online"]

SCENARIO = """
from kd.tracking.sweep_report import publish_report
from kd.tracking.wandb_environment import find_agent

merits = {"accuracy": 0.8, "training": {"best_val_accuracy": 0.85}}
before = dict(os.environ)
for name in ("first", "again"):
    config = {"kd.temperature": 4.0, "seed": 0}
    with tracker(name, mode="online", agent=find_agent(), project="mine", config=config) as t:
        t.sibling("teacher", run_id="id-teacher", name="the teacher")
        t.sibling("baseline", run_id="id-baseline", name="the baseline")
        for stage in ("teacher", "baseline", "student"):
            rows(t, stage, 2)
        t.finish({"student": merits, "teacher": merits, "baseline": merits}, {}, {}, {})
publish_report(root, run_id="id-report", name="report", config={}, figures={}, tables={}, summary={}, mode="online")
after = dict(os.environ)
after.pop("WANDB_SERVICE", None)
print("the environment is", "as it was" if after == before else {*after.items()} ^ {*before.items()})
"""


def environment(folder: Path, run_id: str = "agents1", **more: str) -> dict[str, str]:
    """The variables that an agent in ``folder`` sets for the processes that it starts."""
    file = folder / "wandb" / "sweep-s1" / f"config-{run_id}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("wandb_version: 1\n\nkd:\n  value: hinton\nkd.temperature:\n  value: 4\n")
    return {
        "WANDB_SWEEP_ID": "s1",
        "WANDB_RUN_ID": run_id,
        "WANDB_SWEEP_PARAM_PATH": str(file),
        "WANDB_PROJECT": "sweeps",
        "WANDB_ENTITY": ENTITY,
        "WANDB_DIR": str(folder),
    } | more


def of_sweep(server: Server) -> dict[str, str | None]:
    return {name: run.sweep for name, run in server.runs.items()}


def test_the_run_of_an_agent_has_its_id_and_no_other_has(tmp_path):
    with Server() as server:
        done, _ = play(tmp_path, SCENARIO, **server.environment(), **environment(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    assert "the environment is as it was" in done.stdout
    assert of_sweep(server) == {"agents1": "s1", "id-teacher": None, "id-baseline": None, "id-report": None}
    cell, teacher, baseline = (server.runs[name] for name in ("agents1", "id-teacher", "id-baseline"))
    assert {run.project for run in (cell, teacher, baseline)} == {"sweeps"}, (
        "the project of the sweep, not tracking.project"
    )
    assert [row["epoch"] for row in cell.history if "student/loss" in row] == [1, 2], "each row once"
    assert [row["epoch"] for row in teacher.history if "teacher/loss" in row] == [1, 2]
    assert (cell.summary["val/accuracy"], cell.exit_code, teacher.exit_code, baseline.exit_code) == (0.85, 0, 0, 0)
    assert (cell.config["kd"], cell.config["kd.temperature"]) == ("hinton", 4), "as sweep.yaml names them"
    assert "kd" not in teacher.config
    own = re.compile(r"run-\d+_\d+-agents1(-\d+)?")  # wandb numbers a second folder of the same second
    (parent,) = (path.parent for path in (tmp_path / "outputs").rglob("run-*") if own.fullmatch(path.name))
    assert parent == tmp_path / "outputs" / "wandb", "WANDB_DIR is the default of the agent"


def test_a_sweep_without_an_agent_takes_runs_with_ids_of_their_own(tmp_path):
    alone = {"WANDB_SWEEP_ID": "s1"}
    with Server() as server:
        done, _ = play(tmp_path, SCENARIO, **server.environment(), **alone)
        assert (done.returncode, done.stderr) == (0, "")
    assert of_sweep(server) == {
        "id-first": "s1",
        "id-again": "s1",
        "id-teacher": None,
        "id-baseline": None,
        "id-report": None,
    }


def test_variables_of_one_run_change_no_run_and_break_none(tmp_path):
    rubbish = {"MODE": "nonsense", "PROJECT": "a/b:1", "TAGS": "x" * 80, "RUN_ID": "a/b", "RESUME_FROM": "a?_step=1"}
    of_one = {"NAME": "mine", "JOB_TYPE": "mine", "RESUME": "must", "RUN_GROUP": "g" * 200, "NOTES": "why"}
    variables = {f"WANDB_{name}": value for name, value in (rubbish | of_one).items()}
    scenario = """
with tracker("cell", job_type="distill") as t:
    t.sibling("teacher", run_id="id-teacher", name="the teacher")
    rows(t, "teacher", 1)
    rows(t, "student", 1)
    t.finish({"student": {"accuracy": 1}, "teacher": {"accuracy": 1}}, {}, {}, {})
print(t.hint())
"""
    done, home = play(tmp_path, scenario, **variables, WANDB_DIR="~/tracked")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "~").exists() and "tracked" in done.stdout
    runs = read_runs(home / "tracked")
    assert {key: (r.name, r.job_type, r.project) for key, r in runs.items()} == {
        "id-cell": ("cell", "distill", "kd"),
        "id-teacher": ("the teacher", "teacher", "kd"),
    }
    assert len({run.group for run in runs.values()}) == 1 and len(runs["id-cell"].group) == 128


def test_names_of_any_length_and_script_are_tracked(tmp_path):
    scenario = """
names = {"project": "图" * 128, "entity": "é" * 100, "group": "g" * 300, "tags": ["a", "a", "b" * 99]}
for number in range(2):
    with tracker(f"cell{number}", **names) as t:
        t.sibling("teacher", run_id="id-teacher", name="t" * 300)
        rows(t, "teacher", 1)
        t.finish({"student": {"accuracy": 1}, "teacher": {"accuracy": 1}}, {}, {}, {})
"""
    done, _ = play(tmp_path, scenario)
    assert (done.returncode, done.stderr) == (0, "")
    runs = read_runs(tmp_path / "outputs")
    assert {*runs} == {"id-cell0", "id-cell1", "id-teacher"}, "the teacher is logged once"
    assert sorted(runs["id-cell0"].tags) == ["a", "b" * 64]
    assert len({run.group for run in runs.values()}) == 1


def test_offline_an_agent_receives_nothing_and_the_run_warns(tmp_path):
    scenario = """
from kd.tracking.wandb_environment import find_agent
for mode in ("offline", "disabled"):
    with tracker(mode, mode=mode, agent=find_agent()) as t:
        rows(t, "student", 1)
"""
    done, _ = play(tmp_path, scenario, **environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [line.split("agent waits")[0] for line in done.stderr.splitlines()] == ["WARNING a wandb "] * 2
    assert "tracking=online" in done.stderr
    assert [*read_runs(tmp_path / "outputs")] == ["agents1"], "can be sent later, to where the agent waits"


def clean(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path} | more


def test_the_same_parameters_again_reuse_the_run_and_are_logged_to_the_agents_new_run(tmp_path):
    with Server() as server:
        for number in (1, 2):
            variables = environment(tmp_path, f"agents{number}")
            env = clean(**server.environment(), **variables, HOME=str(tmp_path), KD_OUTPUTS=str(tmp_path / "o"))
            done = run("kd.run", *QUICK, "baseline=false", cwd=tmp_path, env=env)
            assert done.returncode == 0, done.stderr
        assert "is reused" in done.stdout
    first, second = (server.runs[f"agents{number}"] for number in (1, 2))
    assert (first.sweep, second.sweep, first.exit_code, second.exit_code) == ("s1", "s1", 0, 0)
    assert first.summary["val/accuracy"] == second.summary["val/accuracy"]
    curves = [[row["student/loss"] for row in run.history if "student/loss" in row] for run in (first, second)]
    assert len(curves[0]) == 1 and curves[0] == curves[1]
    assert sorted(run.job_type for run in server.runs.values()) == ["distill", "distill", "teacher"]
    assert {run.project for run in server.runs.values()} == {"sweeps"}
    (folder,) = (tmp_path / "o" / "runs").iterdir()
    assert metrics(tmp_path / "o", folder.name), "the record of the run stays as it was"


def test_a_multirun_under_an_agent_is_refused(tmp_path):
    variables = environment(tmp_path)
    done = run("kd.run", "-m", "seed=0,1", cwd=tmp_path, env=clean(**variables, KD_OUTPUTS=str(tmp_path / "o")))
    assert done.returncode == 2 and "one run at a time" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_sweep_of_ours_with_a_long_name_is_one_group_in_the_project_of_the_environment(tmp_path):
    place = f"hydra.sweep.dir=sweeps/{'s' * 200}"
    env = clean(HOME=str(tmp_path), KD_OUTPUTS="o", WANDB_PROJECT="mine", WANDB_RUN_GROUP="theirs")
    done = run("kd.run", "-m", "seed=0,1", place, *QUICK, "tracking=offline", "baseline=false", cwd=tmp_path, env=env)
    assert done.returncode == 0 and "W&B" not in done.stderr, done.stderr
    runs = read_runs(tmp_path / "o").values()
    assert sorted(run.job_type for run in runs) == ["distill", "distill", "report", "teacher"]
    assert {(run.project, len(run.group)) for run in runs} == {("mine", 128)} and len({run.group for run in runs}) == 1


def of_the_page() -> dict:
    """The sweep.yaml of the page."""
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_the_page_names_a_metric_that_a_run_ends_with_and_settings_without_dashes():
    sweep = of_the_page()
    assert sweep["metric"]["name"] in NETWORK_SUMMARY and "test" not in sweep["metric"]["name"]
    assert "${args_no_hyphens}" in sweep["command"] and "tracking=online" in sweep["command"]


@pytest.mark.slow
def test_a_real_agent_runs_the_sweep_of_the_page(tmp_path):
    """`wandb sweep` and `wandb agent`, which looks for an end five times a second instead of every five seconds."""
    sweep = of_the_page()
    sweep["command"] += QUICK
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    quick = "from wandb import wandb_agent; wandb_agent.Agent.POLL_INTERVAL = 0.2; from wandb.cli.cli import cli; cli()"
    with Server() as server:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = clean(**server.environment(), HOME=str(tmp_path), PATH=path, KD_OUTPUTS=str(tmp_path / "o"))
        how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 300}
        made = subprocess.run([sys.executable, "-c", quick, "sweep", "--project", "sweeps", "sweep.yaml"], **how)
        (name,) = re.findall(rf"wandb agent (\S*{[*server.sweeps][0]})", made.stderr)
        server.waiting = [{"kd.temperature": 2, "kd.alpha": 0.5}, {"kd.temperature": 8, "kd.alpha": 0.5}]
        server.waiting.append(server.waiting[0])
        done = subprocess.run([sys.executable, "-c", quick, "agent", "--count", "3", name], **how)
        assert done.returncode == 0, done.stderr
    cells = [run for run in server.runs.values() if run.sweep]
    assert [run.config["kd.temperature"] for run in cells] == [2, 8, 2]
    assert [run.exit_code for run in cells] == [0, 0, 0], done.stderr
    assert all(0 <= run.summary[sweep["metric"]["name"]] <= 1 for run in cells)
    others = sorted(run.job_type for run in server.runs.values() if not run.sweep)
    assert others == ["baseline", "teacher"], "once each"
