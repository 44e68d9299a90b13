"""The setting that is the weight of a term; ``kd.balance`` with any method, as typed."""

from __future__ import annotations

import pytest

from kd.build import build_objective
from kd.config.combine import expand_combination
from kd.config.composed import as_written, compose_checked
from kd.config.weights import WeightSetting, weight_settings
from kd.pipeline.keys import active_terms
from tests.conftest import compose, options

METHODS = options("kd")


def composed(*overrides: str):
    return compose_checked([*overrides, "report=false"])


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        (["kd=at"], {"hard": "kd.hard", "at": "kd.weight"}),
        (["kd=ft"], {"hard": "kd.hard", "ft": "kd.weights.ft"}),  # kd.weight is inside the term
        (["kd=ofa_stages"], {"hard": "kd.hard", "ofa": "kd.weight", "stages": "kd.stage_weight"}),
        (
            ["kd=combine", "kd.terms=[ofa_stages,at,hinton]"],
            {
                "hard": "kd.hard",
                "at": "kd.at.weight",
                "hinton": "kd.hinton.alpha",
                "ofa_stages_ofa": "kd.ofa_stages.weight",
                "ofa_stages_stages": "kd.ofa_stages.stage_weight",
            },
        ),
        (["kd=combine", "kd.terms=[at]"], {"hard": "kd.hard", "at": "kd.at.weight"}),
    ],
)
def test_the_weight_of_a_term_is_the_setting_that_one_types(overrides, right):
    cfg, choices = composed(*overrides)
    found = weight_settings(as_written(cfg))
    assert {term: setting.key for term, setting in found.items()} == right
    objective = build_objective(expand_combination(cfg, choices)[0].kd)
    assert set(objective.terms) == set(right)
    changed = [f"{key}=0.123" for term, key in right.items() if term != "hard"]
    again = build_objective(expand_combination(*composed(*overrides, *changed))[0].kd)
    assert all(weight == 0.123 for name, weight in again.weights.items() if name != "hard")


def test_alpha_mixes_the_labels_and_the_teacher():
    soft = weight_settings(as_written(composed("kd=hinton")[0]))["soft"]
    assert soft == WeightSetting("kd.alpha", mixes=True)
    alpha = soft.value_for(ratio=0.25, labels=0.3)
    assert alpha / (1 - alpha) == pytest.approx(0.25)
    assert WeightSetting("kd.weight").value_for(ratio=0.25, labels=0.3) == pytest.approx(0.075)


def test_nothing_mixes_where_the_weight_of_the_labels_is_set():
    combined = ["kd=combine", "kd.terms=[hinton,at]"]
    mixed, fixed = (weight_settings(as_written(composed(*combined, *more)[0])) for more in ([], ["kd.hard=1.0"]))
    assert mixed["hinton"].mixes and not fixed["hinton"].mixes


@pytest.mark.parametrize("method", [*METHODS, "combine"])
def test_balance_is_typed_with_any_method(method):
    plain = build_objective(expand_combination(compose(f"kd={method}"), {})[0].kd)
    cfg, choices = composed(f"kd={method}", "kd.balance=auto", "kd.balance_share=0.7")
    cfg, _ = expand_combination(cfg, choices)
    if plain.added_terms and not plain.label_terms:
        with pytest.raises(ValueError, match="kd.balance=auto weighs each added term against the labels"):
            build_objective(cfg.kd)
        return
    assert build_objective(cfg.kd).balance == dict.fromkeys(plain.added_terms, 0.7)
    assert plain.balance == {} and "balanced" not in plain.state_dict()


@pytest.mark.parametrize(
    ("override", "message"),
    [("kd.balance=on", "kd.balance must be auto"), ("kd.balance_share=0", "kd.balance_share must be a number above 0")],
)
def test_other_values_are_refused(override, message):
    with pytest.raises(ValueError, match=message):
        composed("kd=at", override)


def test_a_balanced_term_is_in_the_key_by_its_share_and_its_weight():
    """A term that pulls nowhere at the start keeps its weight."""
    kd = {"terms": {"hard": {}, "at": {"p": 2}}, "weights": {"hard": 1.0, "at": 1000.0}}
    other = {**kd, "weights": {"hard": 1.0, "at": 5.0}}
    assert active_terms(kd, {}) == active_terms(kd) != active_terms(other)
    assert active_terms(kd, {"at": 0.5}) != active_terms(other, {"at": 0.5}) != active_terms(other)
    assert active_terms(kd, {"at": 0.5}) != active_terms(kd, {"at": 0.6})
    assert active_terms({**kd, "weights": {"hard": 1.0, "at": 0.0}}, {}) == active_terms(
        {**kd, "weights": {"hard": 1.0, "at": 0}}
    )
