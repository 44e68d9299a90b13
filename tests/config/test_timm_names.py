"""Names read from timm's source agree with timm."""

from __future__ import annotations

import timm
from timm.models._registry import _deprecated_models
from timm.optim import list_optimizers

from kd.config.timm_names import is_mentioned, offered


def test_whatever_timm_knows_is_mentioned():
    known = [*timm.list_models(pretrained=True), *timm.list_models(), *_deprecated_models]
    assert len(known) > 2000 and all(is_mentioned(name, "models") for name in known)
    assert all(is_mentioned(name, "optim") for name in list_optimizers())


def test_what_is_offered_is_known():
    assert set(offered("models")) == set(timm.list_models())
    assert {"adamw", "sgd", "muon"} <= set(offered("optim")) <= set(list_optimizers())


def test_a_misspelt_name_is_not_mentioned():
    for name in ("resnet_18", "resnt18", "", "3", "hf-hub:timm/resnet18"):
        assert not is_mentioned(name, "models")
    assert not is_mentioned("adamm", "optim")
