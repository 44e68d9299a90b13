"""``hydra/launcher=one_pass`` as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from kd.records.ledger import FINISHED, read_sweep
from tests import quickly
from tests.conftest import CONF, stamps
from tests.pipeline.test_run import SMALL, command

QUICK = [*SMALL, "teacher=tiny_cnn", "teacher.width=1", "tracking=disabled", "report=false"]
PASS = "hydra/launcher=one_pass"
GRID = ["-m", "kd.temperature=2,4", "kd.alpha=0.1,0.9", *QUICK]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    place = tmp_path_factory.mktemp("one pass")
    done = command(*GRID, PASS, "hydra.launcher.choose=always", outputs=place / "outputs", cwd=place)
    (folder,) = (place / "outputs" / "sweeps").iterdir()
    return place / "outputs", folder, done


def test_the_students_train_together_and_each_cell_has_its_own_run(grid):
    outputs, folder, done = grid
    assert "one pass: 4 students of scenes train together" in done.stdout
    assert "one pass: 4 students in stacks of 4" in done.stdout and "4 of 4 finished" in done.stdout
    assert "student  epoch" not in done.stdout  # no cell trained its own
    sweep = read_sweep(folder)
    assert [cell.status for cell in sweep.cells] == ["done"] * 4
    assert len({cell.run for cell in sweep.cells}) == 4
    assert len(list((outputs / "teachers").iterdir())) == len(list((outputs / "logits").iterdir())) == 1
    for cell in sweep.cells:
        rows = [json.loads(line) for line in (cell.run / "metrics.jsonl").read_text().splitlines()]
        assert [row["stage"] for row in rows] == ["teacher", *["baseline"] * 2, *["student"] * 2]
        assert not cell.result["student"]["training"]["found"]
    assert not list((outputs / "unfinished").iterdir())


def test_without_the_launcher_the_same_sweep_finds_every_cell(grid):
    outputs, folder, _ = grid
    before = stamps(outputs / "students") | stamps(outputs / "runs")
    command(*GRID, outputs=outputs, cwd=outputs.parent)
    assert read_sweep(folder).count("found") == 4  # the launcher is in no name and in no key
    assert stamps(outputs / "students") | stamps(outputs / "runs") == before


def test_with_the_launcher_finished_cells_are_not_touched_and_a_failing_one_fails_alone(grid):
    outputs, _, _ = grid
    before = stamps(outputs / "students") | stamps(outputs / "runs")
    wider = ["-m", "kd.temperature=1e-300,2,4,5,6", "kd.alpha=0.9", "sweep=wider", *QUICK]
    done = command(*wider, PASS, outputs=outputs, cwd=outputs.parent, ok=False)
    assert done.returncode == 1 and "one pass: 3 students of scenes train together" in done.stdout
    statuses = [cell.status for cell in read_sweep(outputs / "sweeps" / "wider").cells]
    assert statuses == ["failed", "found", "found", "done", "done"]
    assert "FAILED  kd.temperature=1e-300" in done.stdout and "not finite" in done.stdout
    after = stamps(outputs / "students") | stamps(outputs / "runs")
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_pass_that_is_stopped_resumes(grid, number):
    outputs, _, _ = grid
    name = f"stopped_{number.name}"
    arguments = ["-m", "kd.temperature=3,7", f"kd.alpha={0.3 + number / 100}", f"sweep={name}", *QUICK, PASS]
    long = [*arguments, "train.student.epochs=40"]
    environment = os.environ | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    running = quickly.start("kd.run", *long, cwd=outputs.parent, env=environment)
    until = time.monotonic() + 90
    while time.monotonic() < until and len(list((outputs / "unfinished").glob("students-*/*.pt"))) < 4:
        time.sleep(0.02)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=60)
    if number == signal.SIGINT:
        assert running.returncode == 130 and "Traceback" not in stderr, stderr
        assert "2 students: stopped after epoch" in stdout or "2 students: stopped after the end" in stdout
        assert "interrupted; the same command resumes" in stderr
    assert read_sweep(outputs / "sweeps" / name).count("failed") == 0
    done = command(*long, outputs=outputs, cwd=outputs.parent)
    assert done.stdout.count("student: resuming from") == 2 and "2 students epoch" in done.stdout
    sweep = read_sweep(outputs / "sweeps" / name)
    assert sweep.count(*FINISHED) == 2
    for cell in sweep.cells:
        rows = [json.loads(line) for line in (cell.run / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows if row["stage"] == "student"] == list(range(1, 41))


@pytest.mark.parametrize(
    ("setting", "message"),
    [("choose=sometimes", "measured or always"), ("students=0", "auto or a number of 1 or more")],
)
def test_a_wrong_setting_of_the_launcher_is_refused(tmp_path, setting, message):
    done = command(*GRID, PASS, f"hydra.launcher.{setting}", outputs=tmp_path / "o", cwd=tmp_path, ok=False)
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_job_takes_the_plan_that_the_launcher_made_and_its_teacher_is_untrained(tmp_path):
    import hydra
    import torch
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    import kd.run  # noqa: F401  registers the resolvers
    from kd.sweep import one_pass
    from tests.conftest import compose

    def load(config, overrides):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", [*QUICK, f"outputs={tmp_path}", *overrides], return_hydra_config=True)

    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "sweeps" / "here")}}})
    jobs = [["kd.temperature=2"], ["kd.temperature=3"], ["kd.temperature=-1"], ["train.threads=2"]]
    one_pass.train_jobs(config, load, jobs, None, False)
    assert len(list((tmp_path / "students").iterdir())) == 2
    groups = ("data", "augment", "attention", "teacher", "student", "kd", "train", "tracking")
    options = ("scenes", "light", "none", "tiny_cnn", "tiny_cnn", "hinton", "default", "disabled")
    choices = dict(zip(groups, options, strict=True))
    cfg = compose(*QUICK, f"outputs={tmp_path}", "kd.temperature=2", "tracking.group=here")
    plan = one_pass.take_plan(cfg, choices)
    assert plan is not None and one_pass.take_plan(cfg, choices) is None
    fresh, other = plan.builder.build("teacher"), one_pass._made.popitem()[1]
    assert not one_pass._made  # not the plan of the wrong setting, nor that with other threads
    mine, theirs = plan.teachers[0].network, other.teachers[0].network
    for name, value in fresh.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value) and torch.equal(theirs.state_dict()[name], value)
    assert mine is not theirs
