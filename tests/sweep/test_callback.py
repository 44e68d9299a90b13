"""A sweep as a user starts it: real cells on small drawn images."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from kd.records.ledger import FINISHED, job_entry, read_sweep
from kd.report.run.tables import seeds_rows
from kd.report.sweep.view import views
from kd.sweep.monitor import SweepMonitor
from kd.sweep.naming import sweep_name
from tests import quickly
from tests.conftest import CONF, options, stamps
from tests.pipeline.test_run import SMALL, command
from tests.report.sweep.fake import make_sweep

QUICK = [*SMALL, "teacher=tiny_cnn", "teacher.width=1", "tracking=disabled", "report=false"]
GRID = ["-m", "kd.temperature=2,4", "kd.alpha=0,0.5", "seed=0,1", *QUICK]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    place = tmp_path_factory.mktemp("a sweep, with 'quotes'")  # users have such folders
    done = command(*GRID, outputs=place / "outputs", cwd=place)
    (folder,) = (place / "outputs" / "sweeps").iterdir()
    return place / "outputs", folder, done


def test_one_teacher_one_baseline_and_one_logit_cache_a_seed(grid):
    outputs, folder, done = grid
    sweep = read_sweep(folder)
    assert folder.name.startswith("temperature-alpha-seed-")
    assert len(sweep.cells) == 8 and sweep.count(*FINISHED) == 8
    assert len(list((outputs / "teachers").iterdir())) == 1
    assert len(list((outputs / "logits").iterdir())) == 2
    assert len(list((outputs / "students").iterdir())) == 2 + 4  # baselines, students
    assert "8 of 8 finished" in done.stdout and f"Report: outputs/sweeps/{folder.name}/report.html" in done.stdout


def test_alpha_0_does_not_depend_on_the_temperature_and_is_run_once(grid):
    outputs, folder, _ = grid
    cells = {tuple(sorted(cell.values.items())): cell for cell in read_sweep(folder).cells}
    for seed in "01":
        two, four = (cells[(("kd.alpha", "0"), ("kd.temperature", t), ("seed", seed))] for t in ("2", "4"))
        assert (two.status, four.status) == ("done", "found") and two.run == four.run
        assert two.result["comparison"]["accuracy_gain"] == 0
    assert len(list((outputs / "runs").iterdir())) == 6


def test_the_same_command_again_reuses_every_cell(grid):
    outputs, folder, _ = grid
    before = stamps(outputs / "students") | stamps(outputs / "runs")
    done = command(*GRID, outputs=outputs, cwd=outputs.parent)
    assert read_sweep(folder).count("found") == 8 and "8 of 8 finished" in done.stdout
    assert stamps(outputs / "students") | stamps(outputs / "runs") == before
    assert len(list((outputs / "sweeps").iterdir())) == 1


def test_a_cell_equals_the_single_run_of_its_command(grid):
    outputs, folder, _ = grid
    cell = next(cell for cell in read_sweep(folder).cells if cell.values["kd.alpha"] == "0.5")
    command(*cell.overrides, *QUICK, "teacher.source=live", outputs=outputs.parent / "other", cwd=outputs.parent)
    (alone,) = (outputs.parent / "other" / "runs").iterdir()
    assert not (outputs.parent / "other" / "logits").exists()
    assert alone.name == cell.run.name
    assert (alone / "student.safetensors").read_bytes() == (cell.run / "student.safetensors").read_bytes()


def test_a_failing_cell_is_reported_at_once_stops_no_other_and_runs_again(grid):
    outputs, _, _ = grid
    failing = ["-m", "kd.temperature=1e-300,2,4", "sweep=failing", *QUICK]  # logits divided by it overflow
    done = command(*failing, outputs=outputs, cwd=outputs.parent, ok=False)
    assert done.returncode == 1
    reported = done.stdout.index("not finite")
    assert reported < done.stdout.index("cell 3/3"), "at once, not at the end"
    assert "FAILED  kd.temperature=1e-300" in done.stdout and "The same command runs the missing cells" in done.stdout
    first = read_sweep(outputs / "sweeps" / "failing")
    assert [cell.status for cell in first.cells] == ["failed", "done", "done"]
    entries = [path.read_text() for path in (outputs / "sweeps" / "failing" / "cells").iterdir()]
    assert sum("Traceback" in entry for entry in entries) == 1
    assert (outputs / "sweeps" / "failing" / "report.html").is_file(), "a sweep with failures has its report"
    command(*failing, outputs=outputs, cwd=outputs.parent, ok=False)
    again = read_sweep(outputs / "sweeps" / "failing")
    assert [cell.status for cell in again.cells] == ["failed", "found", "found"]
    assert again.cells[0].began > first.cells[0].began


def test_an_interrupted_sweep_does_only_what_is_missing(grid):
    outputs, _, _ = grid
    arguments = ["-m", "kd.temperature=3,5,7", "sweep=killed", *QUICK]
    environment = os.environ | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    running = quickly.start("kd.run", *arguments, cwd=outputs.parent, env=environment)
    ledger = outputs / "sweeps" / "killed"
    until = time.monotonic() + 60
    while time.monotonic() < until and not ((ledger / "sweep.json").is_file() and read_sweep(ledger).count(*FINISHED)):
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    broken = read_sweep(ledger)
    assert broken.count(*FINISHED) < 3 and broken.count("running") == 0, "a killed job does not count as running"
    finished = [cell for cell in broken.cells if cell.status in FINISHED]
    before = {cell.run: stamps(cell.run.parent) for cell in finished}
    command(*arguments, outputs=outputs, cwd=outputs.parent)
    whole = read_sweep(ledger)
    assert whole.count(*FINISHED) == 3
    assert all(whole.cells[broken.cells.index(cell)].status == "found" for cell in finished)
    for run, stamp in before.items():
        assert {path: time_ for path, time_ in stamps(run.parent).items() if path.parent == run} == {
            path: time_ for path, time_ in stamp.items() if path.parent == run
        }


def test_two_sweeps_at_once_train_one_teacher(tmp_path):
    environment = os.environ | {"KD_OUTPUTS": str(tmp_path / "outputs"), "PYTHONPATH": str(CONF.parent)}
    long = [*QUICK, "kd.alpha=0.5", "train.teacher.epochs=10"]
    arguments = [["-m", f"kd.temperature={t}", f"sweep=at_{t}", *long] for t in (2, 4)]
    both = [quickly.start("kd.run", *each, cwd=tmp_path, env=environment) for each in arguments]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "runs").glob("*/result.json")]
    assert sorted(result["teacher"]["training"]["found"] for result in results) == [False, True]
    assert len(list((tmp_path / "outputs" / "logits").iterdir())) == 1
    assert len(list((tmp_path / "outputs" / "students").iterdir())) == 3  # one baseline, two students


def test_ctrl_c_says_how_to_resume(grid):
    outputs, _, _ = grid
    environment = os.environ | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    arguments = ["-m", "kd.temperature=11,12", "sweep=interrupted", "train.student.epochs=200", *QUICK]
    running = quickly.start("kd.run", *arguments, cwd=outputs.parent, env=environment)
    ledger = outputs / "sweeps" / "interrupted"
    until = time.monotonic() + 60
    while time.monotonic() < until and not list((ledger / "cells").glob("*.json")):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in stderr
    assert "interrupted; the same command resumes" in stderr
    assert read_sweep(ledger).count("failed") == 0


def test_a_sweep_needs_no_reader_of_its_output(grid):
    outputs, _, _ = grid
    environment = os.environ | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    arguments = ["-m", "kd.temperature=2,4", "kd.alpha=0.5", "sweep=unread", *QUICK]
    reader, writer = os.pipe()
    os.close(reader)
    done = quickly.run("kd.run", *arguments, cwd=outputs.parent, env=environment, stdout=writer)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert read_sweep(outputs / "sweeps" / "unread").count(*FINISHED) == 2


def test_an_experiment_may_be_a_sweep_and_the_command_line_has_the_last_word(grid):
    outputs, _, _ = grid
    quick = [override for override in QUICK if not override.startswith("student.width")]
    command("experiment=width", "student.width=0.25", "seed=choice(0)", *quick, outputs=outputs, cwd=outputs.parent)
    (folder,) = (outputs / "sweeps").glob("width-*")
    (cell,) = read_sweep(folder).cells
    assert cell.result["settings"]["student.width"] == 0.25


def test_a_sweep_over_a_glob_of_options(grid):
    outputs, _, _ = grid
    done = command("-m", "student=glob(tiny*)", *QUICK, "baseline=false", outputs=outputs, cwd=outputs.parent)
    count = sum(option.startswith("tiny") for option in options("student"))
    assert f"{count} of {count} finished" in done.stdout


def test_the_name_of_a_sweep_fits_a_file_system_and_differs_by_what_is_swept():
    parser = OverridesParser.create()
    swept = parser.parse_overrides([f"kd.a_rather_long_setting_{number}=1,2" for number in range(40)])
    names = {sweep_name(some, fixed, None) for some in (swept, swept[:-1]) for fixed in ([], ["seed=1"])}
    assert len(names) == 4 and all(len(name.encode()) < 200 for name in names)
    name = sweep_name(swept[:1], [], "mine/" + "図" * 100)
    assert name.startswith("mine_図") and len(name.encode()) < 200


def test_data_sets_are_distinguished_by_their_images_not_by_their_folders(tmp_path):
    random = np.random.default_rng(0)
    for name, light in (("day", 120), ("night", 20)):
        for split, count in (("train", 12), ("test", 5)):
            for k, label in enumerate(("cat", "dog", "owl")):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for number in range(count):
                    image = random.integers(0, 130, (16, 16, 3))
                    image[..., k] += light
                    Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    shutil.copytree(tmp_path / "day", tmp_path / "copy")
    folders = [f"data.{name}" for name in ("train_images=150", "test_images=60")]
    quick = [line for line in QUICK if line not in folders]
    arguments = ["-m", "data=folder", "data.root=copy,day,night", "seed=0,1", *quick, "train.batch_size=16"]
    done = command(*arguments, outputs=tmp_path / "outputs", cwd=tmp_path)
    assert "6 of 6 finished" in done.stdout
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    first, second = views(read_sweep(folder))
    assert (first.data, second.data) == ("root = copy or root = day", "root = night")
    assert [group.values for group in first.groups] == [{"data.root": "copy"}, {"data.root": "day"}]
    assert first.groups[0].runs == first.groups[1].runs, "the same images are one run"
    results = [cell.result for shown in (first, second) for cell in shown.groups[0].cells]
    assert len({json.dumps(result["data"]["content"]) for result in results}) == 2
    with pytest.raises(ValueError, match="tested on different images"):
        seeds_rows([{**result, "settings": {}} for result in results])


def test_a_sweep_that_cannot_begin_says_why(tmp_path):
    done = command("-m", "seed=0,1", "outputs=/proc/nowhere", cwd=tmp_path, outputs=tmp_path, ok=False)
    assert "kd: the sweep cannot begin: " in done.stderr and "Traceback" not in done.stderr


def test_a_launcher_whose_plugin_is_missing_says_what_to_install():
    from kd.config.register import plugin

    with pytest.raises(SystemExit, match=r"hydra_nowhere is not installed: pip install -e '\.\[nowhere\]'"):
        plugin("nowhere", "hydra_plugins.hydra_nowhere.Launcher")


def test_a_cell_that_runs_again_is_reported_once_it_is_reused(tmp_path, capsys):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(2, 4), alphas=(0.5,), seeds=(0,))
    monitor = SweepMonitor(folder, tmp_path, {})
    with job_entry(folder, read_sweep(folder).cells[0].overrides) as entry:
        assert monitor.look().cells[0].status == "found" and "cell" not in capsys.readouterr().out
        entry.facts["found"] = True
    monitor.stop()
    assert capsys.readouterr().out.count("cell 1/2 reused") == 1
