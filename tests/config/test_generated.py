"""Options made from other options: when they are made, and that a user's file precedes them."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kd.config import generated
from tests import quickly
from tests.conftest import CONF, compose


def test_listing_options_makes_none(monkeypatch):
    monkeypatch.setattr(generated, "generate", lambda group, name: pytest.fail(f"{group}={name} was made"))
    source = generated.GeneratedOptions("kd", "kd://generated")
    assert source.list("kd", None) == ["combine"] and "wrn_40_2" in source.list("teacher", None)
    assert source.is_config("teacher/wrn_40_2") and not source.is_config("teacher/resnet18")
    assert vars(source) == {"provider": "kd", "path": "generated"}, "Hydra copies only these"


def test_an_option_is_made_when_it_is_chosen(monkeypatch):
    made, make = [], generated.generate
    monkeypatch.setattr(generated, "generate", lambda group, name: made.append(f"{group}={name}") or make(group, name))
    compose("teacher=resnet18", "kd=dkd")
    assert made == []
    cfg = compose("teacher=wrn_40_2", "kd=combine")
    assert {*made} == {"teacher=wrn_40_2", "kd=combine"}
    assert (cfg.teacher.network.depth, cfg.teacher.network.widen, cfg.teacher.depth) == (40, 2, 40)
    assert cfg.kd.at.weight == OmegaConf.load(CONF / "kd" / "at.yaml").weight


def test_what_is_changed_in_one_config_is_not_in_the_next():
    """The methods are read once."""
    cfg = compose("kd=combine", "kd.at.weight=7")
    cfg.kd.dkd.temperature = 9
    assert compose("kd=combine").kd.dkd.temperature != 9 and compose("kd=combine").kd.at.weight != 7


def test_a_users_own_file_comes_first(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "vgg8.yaml").write_text("defaults: [resnet18, _self_]\nseed: 77\n", encoding="utf-8")
    arguments = ["--config-dir", str(tmp_path), "teacher=vgg8", "--cfg", "job", "--package", "teacher"]
    done = quickly.run("kd.run", *arguments, cwd=tmp_path, env={"PYTHONPATH": str(CONF.parent)})
    assert done.returncode == 0 and "seed: 77" in done.stdout, done.stderr
