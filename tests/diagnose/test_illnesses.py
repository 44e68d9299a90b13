"""Each illness that a real run was given is named, with a setting that can be typed; a healthy run has none."""

from __future__ import annotations

from pathlib import Path

from kd.config.checks import check_keys
from kd.diagnose.evidence import read_evidence
from kd.diagnose.verdict import Diagnosis, diagnose
from tests.conftest import compose
from tests.diagnose.conftest import COMMON, STUDENT


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
    sentence, settings = found(diagnosed(make("kd=at", "kd.weight=10000")))["labels drowned"]
    assert settings[0].startswith("kd.weight=") and 0 < float(settings[0].removeprefix("kd.weight=")) < 10000
    assert "%" in sentence


def test_a_student_that_sees_its_images_once(make):
    diagnosis = diagnosed(make("train.student.epochs=1"))
    sentence, settings = found(diagnosis)["student underfits"]
    assert f"{100 * diagnosis.figures['accuracy']['student']['views']:.1f} % right on the training views" in sentence
    assert settings == ("train.student.epochs=2", "student.width=0.5")


def test_a_gain_on_few_images_is_within_noise(make):
    diagnosis = diagnosed(make("kd.alpha=0.0001"))
    sentence, settings = found(diagnosis)["within noise"]
    assert "by McNemar's test on 400 test images, one seed" in sentence
    seeds = diagnosis.figures["gain"]["seeds_to_tell"]
    assert not seeds or settings == (f"-m seed={','.join(map(str, range(seeds)))}",)
    assert "does not clearly help" in diagnosis.verdict


def test_networks_that_learn_their_images_by_heart(make):
    long = ("train.teacher.epochs=20", "train.student.epochs=20", "student.width=1.0", "augment=none")
    names = found(diagnosed(make("teacher.checkpoint=null", *long, "kd.alpha=0.3")))
    sentence, settings = names["student overfits"]
    assert settings == ("train.student.mixup=0.5",) and "right on training views" in sentence
    assert names["teacher overfits"][1] == settings


def test_a_method_without_a_teacher_says_so(make):
    diagnosis = diagnosed(make("kd=tf_kd"))
    assert diagnosis.figures["answers"] is diagnosis.figures["agreement"] is None
    assert any(remark.startswith("There is no teacher: kd=tf_kd reads none.") for remark in diagnosis.remarks)
    assert not {"teacher no better", "answers too sharp", "teacher overfits"} & set(found(diagnosis))
    assert "Distillation" not in diagnosis.verdict


def test_every_setting_to_try_can_be_typed(make):
    for folder in make.made.values():
        for finding in diagnosed(folder).findings:
            kd = [f"kd={read_evidence(folder).result['choices']['kd']}"]
            for setting in finding.settings:
                if not setting.startswith("-m seed="):
                    check_keys(_container(compose(*COMMON, *STUDENT, *kd, *setting.split())))


def _container(cfg):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg)
