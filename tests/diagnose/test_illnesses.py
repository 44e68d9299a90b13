"""Each illness that a real run was given is named, with a setting that can be typed; a healthy run has none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kd.config.checks import check_keys
from kd.config.composed import compose_checked
from kd.diagnose.advice import better_teacher
from kd.diagnose.evidence import read_evidence
from kd.diagnose.verdict import Diagnosis, diagnose
from tests.conftest import compose
from tests.diagnose.conftest import COMMON, STUDENT


@pytest.fixture(scope="module")
def unheard(make) -> Path:
    """A run whose teacher has almost no weight. Read only."""
    return make("kd.alpha=0.0001")


def diagnosed(folder: Path) -> Diagnosis:
    return diagnose(read_evidence(folder))


def found(diagnosis: Diagnosis) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {finding.name: (finding.sentence, finding.settings) for finding in diagnosis.findings}


def test_a_healthy_run_has_no_finding(healthy):
    diagnosis = diagnosed(healthy)
    assert diagnosis.findings == [] and diagnosis.verdict.endswith("Nothing stands in its way.")
    gain = diagnosis.figures["gain"]
    assert gain["accuracy"] > 0.05 and gain["p"] < 0.01, "the run is as healthy as it was made to be"
    assert "Distillation helps" in diagnosis.verdict and "of the teacher's lead" in diagnosis.verdict


def test_a_teacher_that_knows_nothing(make):
    diagnosis = diagnosed(make("teacher.checkpoint=null", "train.teacher.epochs=1"))
    sentence, settings = found(diagnosis)["teacher no better"]
    teacher, baseline = (100 * diagnosis.figures["accuracy"][role]["test"] for role in ("teacher", "baseline"))
    assert f"The teacher ({teacher:.1f} %" in sentence and f"({baseline:.1f} %)" in sentence
    assert settings == ("train.teacher.epochs=2",)
    assert "answers too sharp" not in found(diagnosis)


def test_answers_without_a_temperature_are_labels(make):
    sentence, settings = found(diagnosed(make("kd.temperature=0.02", "kd.alpha=0.01")))["answers too sharp"]
    assert "too sharp at T = 0.02" in sentence and "% of the probability" in sentence
    (setting,) = settings
    temperature = float(setting.removeprefix("kd.temperature="))
    assert 0.5 <= temperature <= 4
    softer = diagnosed(make(setting, "kd.alpha=0.01"))
    assert "answers too sharp" not in found(softer) and softer.figures["answers"]["views"]["beside_first"] >= 0.3


def test_a_feature_term_that_drowns_the_labels(make):
    diagnosis = diagnosed(make("kd=at", "kd.weight=10000"))
    sentence, settings = found(diagnosis)["labels drowned"]
    assert settings[0].startswith("kd.weight=") and 0 < float(settings[0].removeprefix("kd.weight=")) < 10000
    assert "%" in sentence


def test_a_term_of_a_combination_that_drowns_the_labels(make):
    settings = found(diagnosed(make("kd=combine", "kd.terms=[hinton,at]", "kd.at.weight=10000")))["labels drowned"][1]
    assert settings[0].startswith("kd.at.weight=") and 0 < float(settings[0].removeprefix("kd.at.weight=")) < 10000
    compose_checked(["kd=combine", "kd.terms=[hinton,at]", "report=false", settings[0]])


def test_a_student_that_sees_its_images_once(make):
    diagnosis = diagnosed(make("train.student.epochs=1"))
    sentence, settings = found(diagnosis)["student underfits"]
    assert f"{100 * diagnosis.figures['accuracy']['student']['views']:.1f} % right on the training views" in sentence
    assert settings == ("train.student.epochs=2", "student.width=0.5")


def test_a_gain_on_few_images_is_within_noise(make):
    diagnosis = diagnosed(make("kd.alpha=0.5", "data.test_images=60", "train.student.epochs=2"))
    sentence, settings = found(diagnosis)["within noise"]
    assert "by McNemar's test on 60 test images, one seed" in sentence
    seeds, images = (diagnosis.figures["gain"][f"{what}_to_tell"] for what in ("seeds", "images"))
    count = seeds or (5 if images else 0)
    assert settings == ((f"-m seed={','.join(map(str, range(count)))}",) if count else ())
    assert "does not clearly help" in diagnosis.verdict


def test_a_teacher_whose_weight_is_next_to_nothing(unheard):
    sentence, (weight, balance) = found(diagnosed(unheard))["teacher unheard"]
    assert re.search(r"soft has 0\.0\d+ % of the gradient", sentence)
    assert weight.startswith("kd.alpha=0.") and float(weight.removeprefix("kd.alpha=")) > 0.1
    assert balance == "kd.balance=auto"


def test_a_gain_from_a_term_that_pulls_nowhere_is_chance(healthy, tmp_path):
    """McNemar's test knows the test images, not the seeds: tiny trainings differ by five points for nothing."""
    folder = Path(shutil.copytree(healthy, tmp_path / "copy"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    for at in (at for row in rows for at in row.get("gradients", [])):
        at["terms"]["soft"]["share"], at["terms"]["hard"]["share"] = 0.001, 0.999
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sentence, _ = found(diagnosed(folder))["teacher unheard"]
    assert "soft has 0.1 % of the gradient" in sentence and "points is chance: try other seeds" in sentence


def test_networks_that_know_their_training_images_by_heart(unheard, tmp_path):
    """A tiny network needs minutes to learn its images by heart, so their logits there are made surer."""
    folder = Path(shutil.copytree(unheard, tmp_path / "copy"))
    with np.load(folder / "training_views.npz") as arrays:
        views = {name: arrays[name] for name in arrays.files}
    sure = {role: (8 * np.eye(6)[views["target"]]).astype(np.float32) for role in ("teacher", "student")}
    np.savez(folder / "training_views.npz", **views | sure)
    names = found(diagnosed(folder))
    assert names["teacher overfits"][1] == names["student overfits"][1] == ("train.student.mixup=0.5",)
    assert "100.0 % right on training views" in names["student overfits"][0]
    assert not {"answers too sharp", "student underfits"} & set(names), "a higher temperature would not help"


def test_a_method_without_a_teacher_says_so(make):
    diagnosis = diagnosed(make("kd=tf_kd"))
    assert diagnosis.figures["answers"] is diagnosis.figures["agreement"] is None
    assert any(remark.startswith("There is no teacher: kd=tf_kd reads none.") for remark in diagnosis.remarks)
    assert not {"teacher no better", "answers too sharp", "teacher overfits"} & set(found(diagnosis))
    assert "Distillation" not in diagnosis.verdict


def test_every_setting_to_try_can_be_typed(make, healthy):
    typed = {
        (f"kd={read_evidence(folder).result['choices']['kd']}", setting)
        for folder in make.made.values()
        for finding in diagnosed(folder).findings
        for setting in finding.settings
        if not setting.startswith("-m seed=")
        and "+" not in read_evidence(folder).result["choices"]["kd"]  # a combination has a test of its own
    }
    for kd, setting in typed:
        check_keys(_container(compose(*COMMON, *STUDENT, kd, *setting.split())))


def test_another_teacher_can_be_typed_after_the_command():
    """Where the teacher was not trained here."""
    bought = {"teacher": {"training": {"epochs": 0}}}
    (other,) = better_teacher(bought)
    check_keys(_container(compose(*other.split())))
    read = {"teacher.checkpoint": "t.safetensors", "teacher.checkpoint_prefix": "teacher"}
    typed = [f"{key}={value}" for key, value in read.items()]
    (other,) = better_teacher(bought | {"settings": read, "command": f"python -m kd.run {' '.join(typed)}"})
    settings = _container(compose(*typed, *other.split()))["teacher"]
    assert settings["checkpoint"] is settings["checkpoint_prefix"] is None and settings["pretrained"] is True
    assert better_teacher(bought | {"command": "python -m kd.run teacher=tiny_cnn teacher.width=1.0"}) == ()


def _container(cfg):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg)
