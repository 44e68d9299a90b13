"""The settings to try are those that the run's own command takes, and change what the sentence says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kd.build import build_objective
from kd.config.combine import expand_combination
from kd.config.composed import as_written, compose_checked
from kd.config.weights import weight_settings
from kd.data.samplers import check_sampler
from kd.diagnose.advice import balanced_weights, half_weights, new_images, sources_of_images
from kd.diagnose.evidence import read_evidence
from kd.diagnose.figures import loudest
from kd.diagnose.findings import find
from kd.diagnose.objective import objective_of
from kd.diagnose.verdict import diagnose
from kd.pipeline.describe import describe_objective
from kd.runtime.values import flatten


def result_of(*overrides: str, described: bool = True) -> dict[str, Any]:
    """Return what settings are advised from, of a run's result; ``described=False``: as an older version wrote it."""
    cfg, choices = compose_checked([*overrides, "report=false"])
    named = weight_settings(as_written(cfg))
    cfg, choices = expand_combination(cfg, choices)
    objective = build_objective(cfg.kd)
    objective.weight_settings = named
    from omegaconf import OmegaConf

    result = {"settings": dict(flatten(OmegaConf.to_container(cfg, resolve=True))), "choices": choices}
    return result | ({"objective": describe_objective(objective)} if described else {})


def moment(progress: float = 0.0, **norms: float) -> dict[str, Any]:
    whole = sum(norms.values())
    terms = {name: {"norm": norm, "share": norm / whole, "cosine": 0.0} for name, norm in norms.items()}
    return {"progress": progress, "terms": terms}


def figures_of(result: Mapping[str, Any], *measured: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a run without baseline or views."""
    scores = {"student": {"views": None, "val": 0.5, "test": 0.5}}
    objective = objective_of(result)
    return {"objective": objective, "accuracy": scores, "answers": None, "gain": None, "gradients": list(measured)}


def found(result: Mapping[str, Any], *measured: dict[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.sentence, each.settings) for each in find(figures_of(result, *measured), result)}


def test_labels_that_are_learned_at_the_end_were_not_drowned():
    result, calm = result_of("kd=at"), [moment(0.0, hard=1, at=1), moment(0.1, hard=1, at=2)]
    assert "labels drowned" not in found(result, *calm, moment(0.98, hard=0.001, at=2))
    assert "labels drowned" in found(result, calm[0], moment(0.1, hard=1, at=8), moment(0.98, hard=1, at=1))


def test_the_weight_is_lowered_from_the_moment_that_is_named():
    """At the start the term is quiet, so that the weight of the start would be higher than the run's 1000."""
    sentence, settings = found(result_of("kd=at"), moment(0.0, hard=1, at=0.1), moment(0.1, hard=1, at=10))[
        "labels drowned"
    ]
    assert "after 10 % of the training" in sentence and "has 90.9 % of the gradient" in sentence
    assert settings == ("kd.weight=50",), "a twentieth; kd.balance=auto would look at the start, and raise it"


def test_a_stage_without_labels_drowns_none():
    result = result_of("kd=fitnet_two_stage")
    measured = [moment(0.0, hint=3), moment(0.1, hint=2), moment(0.98, hard=1, soft=0.01)]
    assert loudest(measured, ["hard"]) is None
    assert found(result, *measured) == {}


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        (["kd=combine", "kd.terms=[hinton,at]"], {"at": "kd.at.weight=5", "hinton": "kd.hinton.alpha=0.0069"}),
        (["kd=combine", "kd.terms=[at]"], {"at": "kd.at.weight=5"}),
        (["kd=ft"], {"ft": "kd.weights.ft=5"}),
        (["kd=at"], {"at": "kd.weight=5"}),
    ],
)
def test_the_setting_of_a_weight_is_the_one_that_is_typed(overrides, right):
    result = result_of(*overrides)
    for name, typed in right.items():
        scale = 1000 if name == "at" else result["settings"][f"kd.weights.{name}"]
        at = moment(**{"hard": 1, name: scale / 10 if name == "at" else 100})
        settings = balanced_weights(result, objective_of(result), at, [name], higher=False)
        key, _, value = typed.partition("=")
        assert settings[0].startswith(f"{key}=") and settings[1] == "kd.balance=auto"
        again = result_of(*overrides, settings[0])["settings"]
        ratio = again[f"kd.weights.{name}"] / again["kd.weights.hard"] * result["settings"]["kd.weights.hard"]
        share = result["objective"]["shares"][name]
        assert ratio * at["terms"][name]["norm"] / scale == pytest.approx(share, rel=0.05)
        assert name != "at" or settings[0] == typed or float(value) == 5


@pytest.mark.parametrize("overrides", [["kd=combine", "kd.terms=[hinton,at]"], ["kd=combine", "kd.terms=[at]"]])
def test_an_older_run_of_a_combination_gets_no_setting_that_does_not_exist(overrides):
    result = result_of(*overrides, described=False)
    at = moment(hard=1, at=100)
    assert balanced_weights(result, objective_of(result), at, ["at"], higher=False) == ("kd.balance=auto",)
    assert half_weights(result, objective_of(result)) == ()


def test_an_older_run_of_one_method_gets_the_setting_of_its_term():
    at = result_of("kd=at", described=False)
    assert half_weights(at, objective_of(at)) == ("kd.weight=500",)
    hinton = result_of("kd=hinton", described=False)
    assert half_weights(hinton, objective_of(hinton)) == ("kd.alpha=0.54",)  # 0.35 : 0.3


@pytest.mark.parametrize("method", ["at", "ft", "hinton", "ofa_stages", "dkd", "fitnet_two_stage", "tf_kd", "crd"])
def test_what_is_guessed_of_an_older_run_is_right(method):
    whole, older = (objective_of(result_of(f"kd={method}", described=each)) for each in (True, False))
    guessed = older["weight_settings"]
    assert guessed.items() <= {name: whole["weight_settings"].get(name) for name in guessed}.items()


@pytest.mark.parametrize("share", [None, 0.2])
def test_a_balanced_run_is_advised_its_share_alone(share):
    result = result_of("kd=at", "kd.balance=auto", *([f"kd.balance_share={share}"] if share else []))
    now = share or 0.5
    lower = found(result, moment(0.0, hard=1, at=now), moment(0.1, hard=1, at=10))["labels drowned"][1]
    assert lower == (f"kd.balance_share={now / 20:.2g}",)
    assert half_weights(result, objective_of(result)) == (f"kd.balance_share={now / 2:g}",)
    higher = found(result, moment(0.0, hard=1, at=0.01))["teacher unheard"][1]
    assert higher == (f"kd.balance_share={50 * now:g}",)
    compose_checked(["kd=at", "kd.balance=auto", *lower, "report=false"])


@pytest.mark.parametrize(("method", "name", "share"), [("hinton", "soft", 1.0), ("at", "at", 0.5)])
def test_a_weight_and_the_balance_beside_it_mean_the_same(method, name, share):
    for described in (True, False):
        result = result_of(f"kd={method}", described=described)
        objective = objective_of(result)
        typed, balance = balanced_weights(result, objective, moment(hard=1, **{name: 0.01}), [name], higher=True)
        again = result_of(f"kd={method}", typed)["settings"]
        before = result["settings"]
        ratio = (again[f"kd.weights.{name}"] / before[f"kd.weights.{name}"]) / (
            again["kd.weights.hard"] / before["kd.weights.hard"]
        )
        assert ratio * 0.01 == pytest.approx(share, rel=0.02) and balance == "kd.balance=auto"


def test_a_result_of_an_older_version_says_by_its_terms_what_is_read():
    for method, reads in (("tf_kd", []), ("at", ["features"]), ("hinton", ["logits"])):
        whole, older = (objective_of(result_of(f"kd={method}", described=each)) for each in (True, False))
        assert older["reads"] == whole["reads"] == reads
        assert {name: older[name] for name in ("takes_mixtures", "takes_unlabelled", "shares")} == {
            name: whole[name] for name in ("takes_mixtures", "takes_unlabelled", "shares")
        }
    own = result_of("kd=hinton", described=False)
    own["settings"]["kd.terms.soft._target_"] = "my_methods.Soft"
    assert objective_of(own)["reads"] is None and not objective_of(own)["takes_unlabelled"]


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        (["kd=hinton"], ("train.student.mixup=0.5",)),
        (["kd=hinton", "train.student.mixup=0.3"], ("train.student.cutmix=0.5",)),
        (["kd=hinton", "train.student.mixup=1.0"], ()),
        (["kd=hinton", "train.student.cutmix=0.6"], ()),
        (["kd=cs_kd"], ()),
    ],
)
def test_mixtures_are_advised_where_they_can_be_typed(overrides, right):
    result = result_of(*overrides)
    assert new_images(result, objective_of(result)) == right
    assert ("mixtures" in sources_of_images(result, objective_of(result))) == bool(right)
    if right:
        cfg, _ = compose_checked([*overrides, *right, "report=false"])
        assert cfg.train.student.mixup + cfg.train.student.cutmix <= 1
        check_sampler(build_objective(cfg.kd).sampler, cfg.train.student.mixup, cfg.train.student.cutmix)


@pytest.mark.parametrize(
    ("overrides", "offered"),
    [
        (["kd=hinton"], True),
        (["kd=dkd"], False),
        (["kd=tf_kd"], False),
        (["kd=hinton", "data.balance=sample"], False),
    ],
)
def test_images_without_labels_are_advised_where_the_method_takes_them(overrides, offered):
    result = result_of(*overrides)
    words = sources_of_images(result, objective_of(result))
    assert ("data.unlabelled" in words) == offered and "augment=strong" in words
    assert "augment=strong" not in sources_of_images(result | {"choices": {"augment": "strong"}}, objective_of(result))


def test_a_tiny_lead_has_no_share(healthy):
    evidence = read_evidence(healthy)
    test = {name: array.copy() for name, array in evidence.test.items()}
    right = test["baseline"].argmax(1) == test["target"]
    one_more = np_flip(test["baseline"], test["target"], right)
    diagnosis = diagnose(evidence._replace(test=test | {"teacher": one_more}))
    assert 0 < diagnosis.figures["gain"]["lead"] < 0.01
    assert "Distillation helps" in diagnosis.verdict and "lead" not in diagnosis.verdict


def np_flip(logits, target, right):
    """Return logits that have one more image right."""
    changed, row = logits.copy(), int((~right).nonzero()[0][0])
    changed[row, target[row]] = changed[row].max() + 1
    return changed


def test_a_teacher_whose_term_has_no_weight_is_not_said_to_be_unread_by_the_method(make):
    diagnosis = diagnose(read_evidence(make("kd.alpha=0")))
    assert diagnosis.remarks[0].startswith("There is no teacher: no term of kd=hinton with a weight above 0 reads one.")


def test_an_older_run_without_a_teacher_is_not_said_to_have_one(make, tmp_path):
    evidence = read_evidence(Path(make("kd=tf_kd")))
    older = json.loads(json.dumps({name: value for name, value in evidence.result.items() if name != "objective"}))
    older["teacher"], test = older["student"], evidence.test | {"teacher": evidence.test["student"]}
    views = evidence.views | {"teacher": evidence.views["student"]}
    diagnosis = diagnose(evidence._replace(result=older, test=test, views=views))
    assert diagnosis.figures["answers"] is None and "Distillation" not in diagnosis.verdict
