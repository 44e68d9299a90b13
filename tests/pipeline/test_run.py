"""The command as a user calls it: real runs on a few small images."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from reference.result_json import unlike

from kd.records import run_folder
from tests import quickly
from tests.conftest import CONF, TINY, compose, stamps, weights_in

SMALL = [
    *TINY,
    "train.teacher.epochs=1",
    "train.student.epochs=2",
    "latency.seconds=0.05",
    "latency.batch=8",
]
FIGURES = ["training", "confusion_teacher", "confusion_student", "confusion_baseline", "confusion_difference"]
FIGURES += [
    "predictions_teacher",
    "predictions_student",
    "predictions_baseline",
    "per_class_f1",
    "reliability",
    "attention",
]


def command(*overrides: str, outputs: Path, cwd: Path, module: str = "kd.run", ok: bool = True, **how):
    environment = os.environ | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    done = quickly.run(module, *overrides, cwd=cwd, env=environment, **how)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done


def run(outputs: Path, *overrides: str, **choices: str) -> tuple[Path, dict]:
    """Make one run in this process, faster than a command; W&B has its own tests."""
    from kd.pipeline.execute import run

    before = set((outputs / "runs").glob("*")) if (outputs / "runs").is_dir() else set()
    named = {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": "hinton"} | choices
    run(compose(*SMALL, f"outputs={outputs}", "tracking=disabled", *overrides), named)
    (folder,) = set((outputs / "runs").glob("*")) - before
    return folder, json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A small version of the README's command, from another folder, in a new Python process."""
    place = tmp_path_factory.mktemp("elsewhere")
    settings = ["teacher=vea_resnet18", "student=tiny_cnn", *SMALL]
    done = command(*settings, outputs=place / "outputs", cwd=place, forked=False)
    (folder,) = (place / "outputs" / "runs").iterdir()
    return folder, json.loads((folder / "result.json").read_text(encoding="utf-8")), done


@pytest.fixture
def store(first) -> Path:
    return first[0].parents[1]


def test_a_run_leaves_every_file_that_it_promises(first):
    folder, result, done = first
    files = ("config.yaml", "metrics.jsonl", "predictions.npz", "attention.npz", "result.json", "report.md")
    for name in (*files, "models.json", "student.safetensors"):
        assert (folder / name).stat().st_size > 0, name
    for name in FIGURES:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    assert folder.name.startswith("scenes-vea_resnet18-tiny_cnn_w0.25-hinton-temperature2-alpha0.7-seed0-")
    assert list((folder.parents[1] / "wandb").glob("offline-run-*")), "tracked offline without being asked"
    assert "wandb leet" in done.stdout and "wandb sync" in done.stdout and str(folder / "report.md") in done.stdout
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        ("teacher", 1), ("baseline", 1), ("baseline", 2), ("student", 1), ("student", 2),
    ]  # fmt: skip
    assert {"loss", "hard", "soft", "val_accuracy", "val_loss", "lr", "images_per_s"} <= set(rows[-1])


def test_the_documentation_names_every_file_of_a_run(first):
    """``kd.report`` makes everything again from these files, and a run leaves no others."""
    text = (CONF.parent / "docs" / "outputs.md").read_text(encoding="utf-8")
    table = re.search(r"\| file \| what it holds \|\n.*?\n\n", text, re.DOTALL)[0]
    named = {name for line in table.split("\n")[2:-2] for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    named.discard(run_folder.UNFINISHED)  # of a run that goes on, or ended with an error
    assert named == {f"{path.name}/" if path.is_dir() else path.name for path in first[0].iterdir()}
    assert set(run_folder.FILES) | set(run_folder.OPTIONAL) <= named


def test_every_run_prints_what_is_wrong_with_its_data(tmp_path):
    from kd.pipeline.execute import heading
    from kd.pipeline.prepare import prepare

    choices = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "hinton"}
    cfg = compose(*SMALL, f"outputs={tmp_path}", "teacher=tiny_cnn", "attention=none", "data.label_noise=0.1")
    for _ in range(2):  # when the images are drawn, and when they are reused
        printed = list(heading(prepare(cfg, choices)))
        assert printed[0].startswith("120 training images")
        assert printed[1:] == ["training images with a wrong label, on purpose: 9 (see the report)"]


@pytest.mark.parametrize("method", ["hinton", "simkd", "crd"])
def test_a_run_that_was_timed_on_a_busy_machine_is_timed_again_when_it_is_reused(tmp_path, monkeypatch, method):
    """The trained networks are reused, also those of SimKD and CRD, which are more than the student."""
    from kd.pipeline.execute import run
    from kd.records.run_folder import is_calm

    chosen = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": method}
    chosen_settings = [
        "teacher=tiny_cnn",
        "attention=none",
        f"kd={method}",
        "train.student.epochs=1",
        "latency.seconds=0.01",
    ]
    cfg = compose(*SMALL, *chosen_settings, f"outputs={tmp_path}", "tracking=disabled", "report=false")
    monkeypatch.setattr("kd.evaluation.cost.RETRY_AFTER", 0.0)
    monkeypatch.setattr("kd.evaluation.latency.MAX_WAITED_SHARE", -1.0)
    made, found = run(cfg, chosen), run(cfg, chosen)
    assert not made.reused and found.reused and not is_calm(found.result["student"]), "the machine is still busy"
    assert not (tmp_path / "costs").exists()
    monkeypatch.setattr("kd.evaluation.latency.MAX_WAITED_SHARE", 1e9)
    monkeypatch.setattr("kd.evaluation.latency.MAX_SHARE_OF_OTHERS", 1e9)
    (tmp_path / "costs").write_text("a file: nothing can be stored there")
    refused = run(cfg, chosen)
    assert refused.reused and refused.result == made.result, "a run that cannot be timed again is reused as it is"
    (tmp_path / "costs").unlink()
    again = run(cfg, chosen)
    assert again.reused and again.folder == made.folder
    result = json.loads((again.folder / "result.json").read_text(encoding="utf-8"))
    assert all(is_calm(result[role]) for role in ("teacher", "student", "baseline"))
    timed = ("latency_ms", "throughput", "one_thread")
    for role in ("teacher", "student", "baseline"):
        assert {k: v for k, v in result[role].items() if k not in timed} == {
            k: v for k, v in made.result[role].items() if k not in timed
        }
    assert run(cfg, chosen).result == result


def test_the_result_is_the_public_interface(first):
    folder, result, done = first
    names = {"accuracy", "macro_f1", "nll", "ece", "params", "params_published", "macs", "size_mb", "latency_ms"}
    for role in ("teacher", "student", "baseline"):
        assert names | {"throughput", "per_class"} <= set(result[role])
        assert set(result[role]["latency_ms"]) == {"batch_1", "batch_8"}
    assert (result["teacher"]["params"], result["teacher"]["params_published"]) == (12_306_057, 23_825_497)
    assert result["student"]["size_mb"] == len(weights_in(folder / "student.safetensors")) / 2**20
    predictions = np.load(folder / "predictions.npz")
    for role in ("teacher", "student", "baseline"):
        share = (predictions[role].argmax(1) == predictions["target"]).mean()
        assert result[role]["accuracy"] == pytest.approx(share)
    agree = (predictions["student"].argmax(1) == predictions["teacher"].argmax(1)).mean()
    assert result["comparison"]["agreement"] == pytest.approx(agree)
    teacher, student, baseline = (result[role]["accuracy"] for role in ("teacher", "student", "baseline"))
    if teacher != baseline:
        assert result["comparison"]["gain_recovered"] == pytest.approx((student - baseline) / (teacher - baseline))
    assert "accuracy (%)" in done.stdout and f"{100 * student:.2f}" in done.stdout


def test_the_reference_describes_every_field_of_the_result(first):
    lacking, more = unlike(first[1])
    assert not lacking and {field.partition(".")[0] for field in more} == {"assistants"}, "this method has none"


def test_the_same_command_again_reuses_the_run(first):
    folder, _, _ = first
    before = stamps(folder)
    done = command("teacher=vea_resnet18", *SMALL, outputs=folder.parents[1], cwd=folder)
    assert "This run was made before and is reused" in done.stdout and "accuracy (%)" in done.stdout
    assert stamps(folder) == before


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_run_that_was_damaged_is_made_again_from_what_was_trained(first, tmp_path, capsys, damage):
    store = Path(shutil.copytree(first[0].parents[1], tmp_path / "outputs"))
    folder, before = store / "runs" / first[0].name, first[1]
    name = {"cut": "student.safetensors", "missing": "predictions.npz"}[damage]
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(b"")
    if damage == "missing":
        (folder / name).unlink()
    from kd.pipeline.execute import run

    chosen = {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": "hinton"}
    again = compose(*SMALL, f"outputs={store}", "tracking=disabled", "report=false")
    ran = run(again, chosen)
    assert not ran.reused and ran.folder == folder and f"is damaged ({name}" in capsys.readouterr().out
    if damage == "cut":
        assert (folder / name).read_bytes() == whole
    assert ran.result["student"]["accuracy"] == before["student"]["accuracy"]
    assert run(again, chosen).reused


def test_another_temperature_trains_the_student_alone(first, store):
    made = {
        path: path.stat().st_mtime_ns for kind in ("teachers", "logits", "data") for path in (store / kind).iterdir()
    }
    folder, result = run(store, "kd.temperature=6", "report=false")
    assert result["teacher"]["training"]["found"] and result["baseline"]["training"]["found"]
    assert not result["student"]["training"]["found"]
    assert {
        p: p.stat().st_mtime_ns for kind in ("teachers", "logits", "data") for p in (store / kind).iterdir()
    } == made
    stages = [json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert stages == ["teacher", "baseline", "baseline", "student", "student"], "reused networks show their history too"


def test_at_alpha_zero_the_student_is_the_baseline(store):
    _, result = run(store, "kd.alpha=0", "kd.temperature=7")
    assert result["student"]["training"]["found"]
    assert result["student"]["accuracy"] == result["baseline"]["accuracy"]
    assert result["comparison"]["accuracy_gain"] == 0 and result["comparison"]["mcnemar_p"] == 1


def test_same_seed_same_bits_cached_or_live_in_another_folder(first, tmp_path):
    folder, result, _ = first
    again, other = run(tmp_path, "teacher.source=live", "report=false")
    assert not other["teacher"]["training"]["found"] and not (tmp_path / "logits").exists()
    assert again.name == folder.name
    assert (again / "student.safetensors").read_bytes() == (folder / "student.safetensors").read_bytes()
    ours, theirs = np.load(again / "predictions.npz"), np.load(folder / "predictions.npz")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs.files)


def test_a_teacher_can_come_from_a_checkpoint(first, store):
    folder, result, _ = first
    (teacher,) = (store / "teachers").iterdir()
    _, other = run(store, f"teacher.checkpoint={teacher / 'network.safetensors'}", "report=false")
    assert other["teacher"]["accuracy"] == result["teacher"]["accuracy"]
    assert other["teacher"]["training"]["epochs"] == 0
    with pytest.raises(ValueError, match="the weights of another network: .*is missing"):
        run(store, f"teacher.checkpoint={folder / 'student.safetensors'}")


def test_without_a_baseline(store):
    folder, result = run(store, "baseline=false", "attention=none", "teacher=resnet18", teacher="resnet18")
    assert result["baseline"] is None and result["comparison"]["gain_recovered"] is None
    assert "labels only" not in (folder / "report.md").read_text(encoding="utf-8").split("## Teacher and student")[1]


def test_hydra_run_dir_is_honoured(store, tmp_path):
    command("hydra.run.dir=here", "tracking=disabled", *SMALL, outputs=store, cwd=tmp_path)
    assert (tmp_path / "here" / "report.md").is_file() and not (tmp_path / "outputs").exists()


def test_another_run_is_not_written_over(store, tmp_path):
    where = ["hydra.run.dir=here", "tracking=disabled", "report=false", *SMALL]
    command(*where, outputs=store, cwd=tmp_path)
    before = (tmp_path / "here" / "result.json").read_bytes()
    done = command(*where, "kd.temperature=5", outputs=store, cwd=tmp_path, ok=False)
    assert done.returncode == 2 and "here holds another run, scenes-" in done.stderr
    assert (tmp_path / "here" / "result.json").read_bytes() == before


def test_the_report_is_made_again_from_the_files_alone(first, tmp_path):
    folder = Path(shutil.copytree(first[0], tmp_path / "moved"))
    for path in (folder / "report.md", *(folder / "figures").iterdir()):
        path.unlink()
    command(str(folder), outputs=tmp_path, cwd=tmp_path, module="kd.report")
    assert (folder / "report.md").read_text("utf-8") == (first[0] / "report.md").read_text("utf-8")
    assert {p.name for p in (folder / "figures").iterdir()} == {p.name for p in (first[0] / "figures").iterdir()}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("kd.alpha=1.5", "must lie in [0, 1], got 1.5"),
        ("kd.temperature=0", "kd.temperature must be a number above 0"),
        ("student.width=-1", "student.width must be a number above 0"),
        ("teacher.name=resnet_18", "did you mean"),
        ("teacher.checkpoint=nowhere.pt", "nowhere.pt"),
        ("train.student.optimizer=adamm", "an optimizer of timm, or dot, got 'adamm'; did you mean adam"),
        ("train.student.optimizer=adahessian", "optimizer 'adahessian' does not work here"),
        ("attention.stages=[9]", "0 to 4"),
        ("teacher.source=bnk", "auto, live or cached"),
        ("seed=-1", "seed must be a whole number of 0 or more"),
        ("augment.flip=7", "augment.flip must be a number in [0, 1]"),
        ("teacher=timm teacher.name=halonet_h1", "the teacher cannot take images of 16 x 16 pixels"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_trained(store, override, says):
    before = len(list((store / "teachers").iterdir()))
    with pytest.raises(Exception, match="(?s).*") as caught:
        run(store, "teacher.seed=99", *override.split())
    assert says in str(caught.value) + str(caught.value.__cause__)
    assert len(list((store / "teachers").iterdir())) == before


def test_the_command_prints_the_mistake_without_a_traceback(tmp_path):
    done = command("kd.temperature=0", *SMALL, outputs=tmp_path / "outputs", cwd=tmp_path, ok=False)
    assert done.returncode == 2 and "kd: kd.temperature must be a number above 0, got 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_own_grey_classes_and_a_student_of_timm(tmp_path):
    from PIL import Image

    from kd.pipeline.execute import run

    for label, (low, high) in {"dark": (0, 110), "jitter": (90, 200)}.items():
        place = tmp_path / "own" / label
        place.mkdir(parents=True)
        for number in range(20):
            noise = np.random.default_rng(number).integers(low, high, (40, 48), np.uint8)
            Image.fromarray(noise).save(place / f"{number}.png")
    own = ["data=folder", f"data.root={tmp_path / 'own'}", "data.image_size=32"]
    networks = ["teacher=resnet18", "student=timm", "student.name=resnet10t", "baseline=false"]
    few = ["train.batch_size=8", "train.teacher.epochs=1", "train.student.epochs=1"]
    few += ["latency.seconds=0.05", "latency.batch=8"]
    named = {"data": "folder", "teacher": "resnet18", "student": "timm", "kd": "hinton"}
    run(compose(*own, *networks, *few, f"outputs={tmp_path / 'outputs'}", "tracking=disabled"), named)
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    assert folder.name.startswith("folder-resnet18-timm_resnet10t-hinton-")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["data"]["classes"] == ["dark", "jitter"] and (folder / "report.md").is_file()


@pytest.fixture(scope="module")
def unequal(tmp_path_factory) -> Path:
    """Twelve classes: six with four images each, six with sixteen."""
    from PIL import Image

    place = tmp_path_factory.mktemp("unequal")
    for label in range(12):
        for split, count in (("train", 4 if label < 6 else 16), ("test", 4 if label < 6 else 8)):
            (place / split / f"class {label}").mkdir(parents=True)
            for number in range(count):
                noise = np.random.default_rng([label, number]).integers(20 * label, 20 * label + 35, (16, 16), np.uint8)
                Image.fromarray(noise).save(place / split / f"class {label}" / f"{number}.png")
    return place


@pytest.mark.parametrize("balance", ["sample", "weight"])
def test_rare_classes_count_more_in_all_networks_of_a_run(unequal, tmp_path, balance):
    own = ["data=folder", f"data.root={unequal}", "data.image_size=16", "teacher=tiny_cnn", "teacher.width=0.5"]
    own += ["attention=none", "train.batch_size=16", "train.teacher.epochs=2", "train.student.epochs=2"]
    own += ["student.width=0.25", "latency.seconds=0.05", "latency.batch=8", "teacher.allow_weak=true"]
    settings = [f"data.balance={balance}", "train.pick_by=balanced_accuracy", "tracking=disabled"]
    done = command(*own, *settings, outputs=tmp_path / "outputs", cwd=tmp_path)
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for role in ("teacher", "student", "baseline"):
        about = result[role]["training"]
        found = [row["val_balanced_accuracy"] for row in rows if row["stage"] == role]
        assert about["picked_by"] == "balanced_accuracy" and about["best_val_balanced_accuracy"] == max(found)
        recalls = [scores["recall"] for scores in result[role]["per_class"].values()]
        assert result[role]["balanced_accuracy"] == pytest.approx(sum(recalls) / 12)
        assert result[role]["top5_accuracy"] >= result[role]["accuracy"]
    assert result["settings"]["data.balance"] == balance
    report = (folder / "report.md").read_text(encoding="utf-8")
    for text in (done.stdout, report):
        assert "top-5 accuracy (%)" in text and "balanced accuracy (%)" in text
    assert "the epoch with the best validation balanced accuracy" in report


def test_weights_of_labels_that_a_method_does_not_read_give_a_warning(tmp_path):
    from kd.pipeline.prepare import prepare
    from kd.runtime.user_warnings import KdWarning

    settings = [
        "kd=function_matching",
        "data.balance=weight",
        "teacher=tiny_cnn",
        "attention=none",
        f"outputs={tmp_path}",
    ]
    choices = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "function_matching"}
    with pytest.warns(KdWarning, match="data.balance=weight weights labels, and kd=function_matching reads none"):
        prepare(compose(*SMALL, *settings), choices)


def test_the_command_line_overrides_the_teachers_attention():
    assert "vea" in compose("teacher=vea_resnet18").attention.wrap._target_
    assert compose("teacher=vea_resnet18", "attention=se").attention.wrap.layer == "se"
    assert compose("teacher=resnet18").attention.wrap is None
