"""Whole runs with a transformer at its own image size as teacher, by methods of each kind that takes one."""

from __future__ import annotations

import pytest

from kd.evaluation.cost import macs
from kd.models.backbone import build
from tests.pipeline.test_run import run

TEACHER = ["teacher=timm", "teacher.name=test_vit", "teacher.image_size=160", "report=false", "baseline=false"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("transformers")


@pytest.mark.parametrize("method", ["hinton", "rkd", "deit", "fitnet"])
def test_a_vision_transformer_teaches_at_its_own_size(store, method):
    _, result = run(store, *TEACHER, f"kd={method}", teacher="timm", kd=method)
    targets = [value for name, value in result["settings"].items() if name.startswith("kd.terms.")]
    assert any(str(value).startswith(f"kd.methods.{method}.") for value in targets)
    assert result["data"]["image_size"] == 16
    assert result["teacher"]["macs"] == macs(build("test_vit", 6, 160), 160)
