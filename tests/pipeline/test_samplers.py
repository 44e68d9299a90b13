"""A run whose method has a sampler: alone, in combinations with a cached teacher, and what is refused before it."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from kd.build import build_objective
from kd.config.combine import expand_combination
from kd.pipeline.execute import run
from kd.pipeline.preflight import try_objects
from tests.conftest import TINY, compose

QUICK = [*TINY, "teacher=tiny_cnn", "train.teacher.epochs=1", "train.student.epochs=2", "latency.seconds=0.05"]
QUICK += ["report=false", "tracking=disabled", "teacher.allow_weak=true"]
NAMED = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "attention": "none", "kd": "cs_kd"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("samplers")


def run_in(outputs, *more: str) -> tuple[dict, list[float], bytes]:
    """Make a run; return its result, the losses of its baseline and the bytes of its student."""
    before = set((outputs / "runs").glob("*"))
    run(compose(*QUICK, f"outputs={outputs}", *more), dict(NAMED))
    (folder,) = set((outputs / "runs").glob("*")) - before
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    losses = [row["loss"] for row in rows if row["stage"] == "baseline"]
    return json.loads((folder / "result.json").read_text()), losses, (folder / "student.safetensors").read_bytes()


def test_the_baseline_keeps_its_batches_and_a_cached_teacher_gives_the_bits_of_a_live_one(outputs, tmp_path):
    combined = "kd=combine", "kd.terms=[cs_kd,hinton]"
    _, baseline, cached = run_in(outputs, *combined)
    found, same, alone = run_in(outputs, "kd=cs_kd")
    assert found["baseline"]["training"]["found"] and baseline == same and alone != cached
    _, same, live = run_in(tmp_path, *combined, "teacher.source=live")
    assert baseline == same and live == cached


def test_beside_a_sampler_another_method_sees_the_images_alone():
    cfg, _ = expand_combination(compose("kd=combine", "kd.terms=[hinton,sskd]"), {})
    objective = build_objective(cfg.kd)
    assert objective.sampler == "rotations" and objective.views == 4 and "hinton" in objective.terms
    cfg, _ = expand_combination(compose("kd=combine", "kd.terms=[cs_kd,dlb]"), {})
    with pytest.raises(ValueError, match="several samplers"):
        build_objective(cfg.kd)


def test_mixtures_are_refused_before_any_data_is_read():
    for overrides in (
        ["kd=cs_kd", "train.student.cutmix=0.3"],
        ["kd=combine", "kd.terms=[at,cs_kd]", "train.student.mixup=1"],
    ):
        cfg = compose(*QUICK, *overrides)
        settings = OmegaConf.to_container(cfg, resolve=True)
        with pytest.raises(ValueError, match="no single class: set train.student.mixup=0 and train.student.cutmix=0"):
            try_objects(cfg, settings, dict(NAMED), set())
