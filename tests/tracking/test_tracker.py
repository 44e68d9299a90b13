"""The tracker with the real wandb: offline, or with a server that is not there.

wandb changes the process that it runs in (environment, threads, a service process), so each scenario has its own.
"""

from __future__ import annotations

import json
import os
import platform
import pty
import time
from pathlib import Path

import pytest
import yaml

from kd.tracking.names import SHORT_NAMES, flatten_gradients, flatten_result
from kd.tracking.tracker import Tracker
from tests.tracking.scenario import ROOT, metrics, metrics_of, play
from tests.tracking.wandb_file import read_runs


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Three runs in one process, as in a Hydra multirun: one ends well, one raises, one is interrupted."""
    tmp_path = tmp_path_factory.mktemp("offline")
    scenario = """
import numpy as np
from PIL import Image
config = {"kd.temperature": 4.0, "student.width": 16, "data.root": "/home/somebody/images/intel",
          "train.milestones": [3, 5], "outputs": "C:\\\\\\\\Users\\\\\\\\somebody\\\\\\\\outputs"}
with tracker("good", config=config, group="study", job_type="distill", tags=["one", "two"], project="kd-test") as t:
    rows(t, "teacher", 3)
    rows(t, "student", 2)
    t.log({"stage": "student", "epoch": np.int64(3), "loss": np.float32("nan"), "val_accuracy": np.float32(0.5)})
    Image.new("RGB", (40, 20), "red").save(root / "runs/good/confusion.png")
    (root / "runs/good/student.safetensors").write_bytes(b"weights" * 1000)
    result = {"version": 1, "command": "python -m kd.run data.root=/home/somebody", "settings": {"seed": 0},
              "choices": {"kd": "hinton"}, "baseline": None,
              "teacher": {"accuracy": 0.9, "per_class": {"sea": {"f1": 0.5}}, "confusion": [[1]]},
              "student": {"accuracy": 0.8, "top5_accuracy": 0.97, "balanced_accuracy": None,
                          "latency_ms": {"batch_1": {"p50": 1.5}}},
              "comparison": {"accuracy_gain": None, "size_ratio": 12.5}}
    tables = {"teacher_vs_student": [{"metric": "accuracy", "teacher": 0.9, "student": np.float64(0.8)},
                                     {"metric": "machine", "teacher": "cpu"}],
              "per_class": [{"class": "sea", "f1": 0.5}]}
    t.finish(result, {"confusion": root / "runs/good/confusion.png"}, tables,
             {"student": root / "runs/good/student.safetensors"})
print(t.hint())
(root / "runs/good").rename(root / "runs/moved")
for name, error in (("bad", ValueError), ("interrupted", KeyboardInterrupt)):
    try:
        with tracker(name) as t:
            rows(t, "teacher", 2)
            raise error("an error of the run")
    except error as seen:
        print("raised", seen)
print("remaining:", [name for name in os.environ if name.startswith("WANDB") and name != "WANDB_SERVICE"])
"""
    done, home = play(tmp_path, scenario, WANDB_MODE="disabled")
    assert done.returncode == 0, done.stderr
    return tmp_path / "outputs", done, home


def test_a_run_can_be_read_back_from_its_wandb_file(offline):
    outputs, _, _ = offline
    run = read_runs(outputs)["id-good"]
    assert (run.id, run.name, run.project, run.group, run.job_type) == (
        "id-good",
        "good",
        "kd-test",
        "study",
        "distill",
    )
    assert sorted(run.tags) == ["one", "two"]
    assert run.config["kd.temperature"] == 4.0 and run.config["student.width"] == 16, "the config is flat"
    assert run.config["train.milestones"] == [3, 5]
    assert run.exit_code == 0


def test_curves_are_plotted_over_the_epoch_not_over_the_order_of_rows(offline):
    outputs, _, _ = offline
    run = read_runs(outputs)["id-good"]
    assert run.steps["teacher/*"] == "epoch" and run.steps["student/*"] == "epoch"
    teacher = [row for row in run.history if "teacher/loss" in row]
    assert [(row["epoch"], row["teacher/loss"]) for row in teacher] == [(1, 1), (2, 0.5), (3, 1 / 3)]
    student = [row for row in run.history if "student/loss" in row]
    assert [(row["epoch"], row["student/val_accuracy"]) for row in student] == [(1, 0.25), (2, 0.25), (3, 0.5)]
    assert not any("teacher/loss" in row for row in student)


def test_what_people_filter_by_has_a_short_name_without_a_dot(offline):
    outputs, _, _ = offline
    config = read_runs(outputs)["id-good"].config
    assert (config["temperature"], config["width"]) == (4.0, 16)
    assert set(SHORT_NAMES) & set(config) == {"temperature", "width"}, "what has no value has no name"
    assert not any("." in name for name in SHORT_NAMES)


def test_the_summary_is_flat(offline):
    outputs, _, _ = offline
    summary = read_runs(outputs)["id-good"].summary
    assert summary["teacher/accuracy"] == 0.9 and summary["student/accuracy"] == 0.8
    assert summary["student/latency_ms/batch_1/p50"] == 1.5
    assert summary["test/top5_accuracy"] == 0.97 and "test/balanced_accuracy" not in summary
    assert summary["comparison/size_ratio"] == 12.5 and summary["choices/kd"] == "hinton"
    assert not {"comparison/accuracy_gain", "baseline", "teacher/confusion", "command"} & set(summary)


def test_figures_and_tables_are_there(offline):
    outputs, _, _ = offline
    run = read_runs(outputs)["id-good"]
    image = run.summary["figures/confusion"]
    assert image["_type"] == "image-file" and (image["width"], image["height"]) == (40, 20)
    assert (run.folder / "files" / image["path"]).stat().st_size == image["size"]
    table = run.summary["teacher_vs_student"]
    assert table["_type"] == "table-file"
    written = json.loads((run.folder / "files" / table["path"]).read_text())
    assert written["columns"] == ["metric", "teacher", "student"]
    assert written["data"] == [["accuracy", 0.9, 0.8], ["machine", "cpu", None]]
    assert run.summary["per_class"]["nrows"] == 1


def test_the_student_is_an_artifact_that_outlives_its_run_folder_and_takes_no_room(offline):
    outputs, _, _ = offline
    artifact = read_runs(outputs)["id-good"].artifacts["student-id-good"]
    assert artifact["type"] == "model"
    kept = Path(artifact["files"]["student.safetensors"])
    assert kept.read_bytes() == b"weights" * 1000, "the run folder was renamed; what wandb sync will read must be there"
    assert kept.samefile(outputs / "runs" / "moved" / "student.safetensors"), "a hard link, not a copy"


def test_runs_of_one_process_are_runs_of_their_own_and_a_raise_is_exit_code_1(offline):
    outputs, done, _ = offline
    runs = read_runs(outputs)
    assert {name: run.exit_code for name, run in runs.items()} == {"id-good": 0, "id-bad": 1, "id-interrupted": 1}
    assert len(runs["id-bad"].history) == 2 and runs["id-bad"].config == {"seed": 0}
    assert done.stdout.count("raised an error of the run") == 2, "the tracker swallowed the error"
    assert len(metrics(outputs, "interrupted")) == 2


def test_what_wandb_does_not_know_of_the_machine(offline):
    outputs, _, _ = offline
    run = read_runs(outputs)["id-good"]
    assert run.config["data.root"] == "intel" and run.config["outputs"] == "outputs"
    assert "environment" not in run.kinds, "wandb's record of user, host, command line and paths"
    (written,) = run.folder.glob("*.wandb")
    assert b"somebody" not in written.read_bytes()
    if len(platform.node()) > 3:
        assert platform.node().encode() not in written.read_bytes()
    assert str(outputs) not in json.dumps([run.config, run.summary, run.history])


def test_nothing_is_written_outside_the_outputs_and_nothing_stays_in_the_environment(offline):
    outputs, done, home = offline
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in outputs.iterdir()) == ["runs", "wandb"]
    assert done.stderr == "", "wandb is silent"
    assert "remaining: ['WANDB_MODE']" in done.stdout


def test_the_hint_says_where_to_look(offline):
    outputs, done, _ = offline
    run = read_runs(outputs)["id-good"].folder
    short = run.relative_to(outputs.parent)
    assert f"wandb leet {short.parent}\n" in done.stdout and f"wandb sync {short}\n" in done.stdout


def test_metrics_jsonl_is_strict_json_in_rows_of_the_run(offline):
    outputs, _, _ = offline
    rows = metrics(outputs, "moved")
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        *[("teacher", 1), ("teacher", 2), ("teacher", 3)],
        *[("student", 1), ("student", 2), ("student", 3)],
    ]
    assert rows[-1] == {"stage": "student", "epoch": 3, "loss": None, "val_accuracy": 0.5}


def test_disabled_does_not_even_import_wandb(tmp_path):
    scenario = """
with tracker("quiet", mode="disabled") as t:
    rows(t, "teacher", 2)
    t.finish({"student": {"accuracy": 1.0}}, {}, {}, {})
assert not [name for name in sys.modules if name.split(".")[0] == "wandb"]
assert t.hint() == ""
"""
    done, home = play(tmp_path, scenario)
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "outputs", "quiet")) == 2
    assert not (tmp_path / "outputs" / "wandb").exists() and list(home.iterdir()) == []


def test_siblings_are_logged_once_even_by_concurrent_jobs_and_again_after_a_failure(tmp_path):
    scenario = """
from filelock import FileLock

def cell(name, **more):
    with tracker(name, **more) as t:
        t.sibling("teacher", run_id="id-teacher", name="teacher")
        rows(t, "teacher", 2)
        rows(t, "student", 2)
        t.finish({"student": {"accuracy": 0.8}, "teacher": {"accuracy": 0.9}}, {}, {}, {})
    print(name, t.hint().count("id-teacher"))

try:
    with tracker("broken") as t:
        t.sibling("teacher", run_id="id-teacher", name="teacher")
        rows(t, "teacher", 1)
        raise ValueError
except ValueError:
    print("broken", t.hint().count("id-teacher"))
with FileLock(root / "wandb" / "logged" / "kd-id-teacher.lock"):  # another job is logging it
    cell("beside")
cell("first")
cell("second")
cell("elsewhere", project="other")
"""
    done, _ = play(tmp_path, scenario)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["broken 1", "beside 0", "first 1", "second 0", "elsewhere 1"]
    assert done.stderr == ""
    runs = read_runs(tmp_path / "outputs")
    assert runs["id-teacher"].job_type == "teacher" and runs["id-teacher"].exit_code == 0
    for name in ("beside", "first", "second"):
        assert not any("teacher/loss" in row for row in runs[f"id-{name}"].history)
        assert [row["stage"] for row in metrics(tmp_path / "outputs", name)] == ["teacher"] * 2 + ["student"] * 2


def test_online_without_a_server_continues_offline_and_the_next_run_does_not_ask(tmp_path):
    scenario = """
with tracker("far", mode="online", timeout=1.5) as t:
    rows(t, "teacher", 3)
print(t.hint())
with tracker("next", mode="online", timeout=50) as t:
    rows(t, "teacher", 3)
"""
    start = time.monotonic()
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "local" + "0" * 40}
    done, _ = play(tmp_path, scenario, WANDB_MODE="offline", **server)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 15
    first, second = done.stderr.splitlines()
    assert "tracked offline" in first and "ask again after" in second
    assert "no API key" not in done.stderr, "WANDB_MODE in the environment spoke before the config"
    runs = read_runs(tmp_path / "outputs")
    assert {name: (run.exit_code, len(run.history)) for name, run in runs.items()} == {
        "id-far": (0, 3),
        "id-next": (0, 3),
    }
    assert "wandb sync" in done.stdout
    assert len(metrics(tmp_path / "outputs", "far")) == 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the service process in /proc")
def test_online_without_a_key_does_not_prompt_and_a_killed_service_harms_nothing(tmp_path):
    """One process for both: on a terminal, where wandb would ask; then its service process is killed in mid-run."""
    scenario = """
import signal, time
sys.stderr.isatty = lambda: True  # wandb asks where stdin and stderr are terminals
with tracker("first", mode="online") as t:
    rows(t, "teacher", 2)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        if "wandb" in name and int(rest.split()[1]) == os.getpid():
            os.kill(int(stat.parent.name), signal.SIGKILL)
            print("killed")
    time.sleep(0.3)
    rows(t, "student", 5)
    t.finish({"student": {"accuracy": 1.0}}, {}, {"per_class": [{"class": "sea"}]}, {})
with tracker("second") as t:
    rows(t, "teacher", 2)
    t.finish({"student": {"accuracy": 1.0}}, {"lost": root / "no.png"}, {"per_class": [{"class": "sea"}]}, {})
"""
    terminal, end = pty.openpty()
    try:
        # WANDB_SILENT would keep wandb from asking: here the tracker has to
        done, _ = play(tmp_path, scenario, stdin=end, WANDB_SILENT="false", TERM="xterm")
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 3, done.stderr
    assert "no API key" in warnings[0] and "logging" in warnings[1] and "figure lost" in warnings[2]
    assert done.stdout.startswith("killed"), "the test no longer finds wandb's service process"
    assert "Traceback" not in done.stderr
    assert len(metrics(tmp_path / "outputs", "first")) == 7
    second = read_runs(tmp_path / "outputs")["id-second"]
    assert second.exit_code == 0 and len(second.history) == 2 + 1
    assert second.summary["per_class"]["nrows"] == 1, "one lost figure must not take the rest along"


def test_a_run_started_again_ends_with_its_own_metrics_and_touches_nothing_else(tmp_path):
    for epochs, loss in ((3, 1.0), (1, 1.0), (2, 0.5)):
        with Tracker(tmp_path, root=tmp_path, run_id="a", config={}, name="a", mode="disabled") as tracker:
            for epoch in range(epochs):
                tracker.log({"stage": "teacher", "epoch": epoch, "loss": loss})
                seen = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
                assert {"stage": "teacher", "epoch": epoch, "loss": loss} in seen, "on disk as soon as it is logged"
        assert [(row["epoch"], row["loss"]) for row in metrics_of(tmp_path)] == [(e, loss) for e in range(epochs)]
        (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "metrics.jsonl"]


def test_a_wrong_mode_lists_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match="offline, online, disabled"):
        Tracker(tmp_path, root=tmp_path, run_id="a", config={}, name="a", mode="off")


@pytest.mark.parametrize("option", ["offline", "online", "disabled"])
def test_every_option_fits_the_tracker(tmp_path, option):
    settings = yaml.safe_load((ROOT / "conf" / "tracking" / f"{option}.yaml").read_text())
    assert settings["mode"] == option
    Tracker(tmp_path, root=tmp_path, run_id="a", config={}, name="a", **settings)


def test_flatten_result_keeps_single_values_only():
    result = {"seconds": {"total": 2}, "data": {"classes": ["sea"], "notes": {"a": "b"}, "test": 3}, "baseline": None}
    assert dict(flatten_result(result)) == {"seconds/total": 2, "data/test": 3}


def test_gradients_of_terms_become_single_numbers():
    def entry(progress, share):
        return {"progress": progress, "terms": {"at": {"norm": 2.0, "share": share, "cosine": None}}}

    row = {"stage": "student", "epoch": 1, "loss": 0.5, "gradients": [entry(0.0, 0.9), entry(0.1, 0.8)]}
    assert flatten_gradients(row) == {
        "stage": "student",
        "epoch": 1,
        "loss": 0.5,
        "gradients_at_start/at/norm": 2.0,
        "gradients_at_start/at/share": 0.9,
        "gradients/at/norm": 2.0,
        "gradients/at/share": 0.8,
    }
    assert flatten_gradients({"epoch": 2, "loss": 0.4}) == {"epoch": 2, "loss": 0.4}
