"""Whole runs with more than one teacher and one student: chains, generations, ensembles, peers, mixtures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from kd.augment.affine import Affine
from kd.augment.chain import MIXING
from kd.augment.mixing import DRAWS, mixture
from kd.build import build_objective
from kd.config.combine import expand_combination
from kd.data.loader import Loader
from kd.interfaces import Batch, Outputs
from kd.methods.supervised import CrossEntropy
from kd.models.ensemble import combine
from kd.runtime.rng import random_uniforms
from tests.conftest import compose, weights_in
from tests.pipeline.test_run import run

QUICK = ["teacher=tiny_cnn", "teacher.width=0.5", "report=false"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("schemes")


def stages(folder) -> list[str]:
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(row)["stage"] for row in rows))


def settings_of(store, kind: str, key: dict | str) -> dict:
    from kd.store.store import KEY_DIGITS, digest

    name = (key if isinstance(key, str) else digest(key))[:KEY_DIGITS]
    return json.loads((store / kind / name / "settings.json").read_text(encoding="utf-8"))


def taught_by(store, student: dict) -> dict:
    """Return the settings of the network that taught the student of these settings."""
    kind = "students" if (store / "students" / student["teacher"][:10]).is_dir() else "teachers"
    return settings_of(store, kind, student["teacher"])


def key_of_student(store, folder) -> dict:
    student = weights_in(folder / "student.safetensors")
    (found,) = [
        path for path in (store / "students").iterdir() if (path / "network.safetensors").read_bytes() == student
    ]
    return settings_of(store, "students", found.name)


def test_each_assistant_is_taught_by_the_one_before_it(store):
    assistants = "kd.assistants=[{student:tiny_cnn,width:0.4},{teacher:tiny_cnn,width:0.3}]"
    folder, result = run(store, *QUICK, "kd=takd", assistants, kd="takd")
    assert stages(folder) == ["teacher", "baseline", "assistant_1", "assistant_2", "student"]
    student = key_of_student(store, folder)
    second = taught_by(store, student)
    first = taught_by(store, second)
    teacher = taught_by(store, first)
    assert (first["network"]["width"], second["network"]["width"], teacher["network"]["width"]) == (0.4, 0.3, 0.5)
    assert teacher["recipe"]["epochs"] == 1 and "objective" not in teacher
    assert len({each["seed"] for each in (student, second, first)}) == 3
    assert [each["name"] for each in result["assistants"]] == ["assistant_1", "assistant_2"]
    assert result["assistants"][0]["params"] > result["assistants"][1]["params"] > result["student"]["params"]


def test_generations_are_students_of_one_kind_with_other_seeds(store):
    folder, result = run(store, *QUICK, "kd=born_again", "kd.generations=3", kd="born_again")
    assert stages(folder)[-3:] == ["assistant_1", "assistant_2", "student"]
    third = key_of_student(store, folder)
    second = taught_by(store, third)
    assert second["network"] == third["network"] and second["seed"] != third["seed"]
    assert {each["params"] for each in result["assistants"]} == {result["student"]["params"]}
    _, alone = run(store, *QUICK, "kd=born_again", "kd.generations=1", kd="born_again")
    assert alone["assistants"] == []


def test_an_ensemble_of_teachers_answers_as_one(store):
    folder, result = run(store, *QUICK, "teacher.ensemble=[0,{teacher:tiny_cnn,width:0.3,seed:4}]")
    assert "tiny_cnn" in result["choices"]["teacher"] and "+" in result["choices"]["teacher"]
    members = [np.load(path / "test_logits.npy") for path in (store / "teachers").iterdir()]
    assert len(members) == 2, "the member that another run trained is reused"
    shown = np.load(folder / "predictions.npz")["teacher"]
    np.testing.assert_allclose(shown, combine(torch.tensor(np.stack(members)), "probabilities"), atol=1e-4)
    _, single = run(store, *QUICK, "kd.temperature=3")
    assert result["teacher"]["params"] > single["teacher"]["params"]


@pytest.mark.parametrize("method", ["dml", "simkd"])
def test_a_peer_or_a_lent_classifier_goes_through_a_whole_run(store, method):
    folder, result = run(store, *QUICK, f"kd={method}", kd=method)
    more = result["student"]["params"] > result["baseline"]["params"]
    assert more == (method == "simkd"), "a peer is discarded, a projector and a lent classifier are deployed"
    assert result["student"]["size_mb"] == len(weights_in(folder / "student.safetensors")) / 2**20
    assert (result["student"]["macs"] > result["baseline"]["macs"]) == more


def test_a_simkd_student_is_reused_with_its_lent_classifier(store):
    first, _ = run(store, *QUICK, "kd=simkd", "latency.batch=4", kd="simkd")
    again, result = run(store, *QUICK, "kd=simkd", "latency.batch=5", kd="simkd")
    assert result["student"]["training"]["found"]
    assert weights_in(first / "student.safetensors") == weights_in(again / "student.safetensors")


def test_function_matching_is_the_same_cached_or_live(store, tmp_path):
    few = "train.student.epochs=2"
    folder, _ = run(store, *QUICK, "kd=function_matching", few, "baseline=false", kd="function_matching")
    live = ["teacher.source=live", "baseline=false"]
    other, _ = run(tmp_path, *QUICK, "kd=function_matching", few, *live, kd="function_matching")
    assert (folder / "student.safetensors").read_bytes() == (other / "student.safetensors").read_bytes()


def test_methods_combine_by_name(store):
    both = ["kd=combine", "kd.terms=[hinton,dist]", "kd.hard=0.4", "kd.hinton.temperature=3", "kd.dist.weight=0.5"]
    folder, result = run(store, *QUICK, *both, "baseline=false", kd="combine")
    assert "-dist+hinton-" in folder.name and result["choices"]["kd"] == "dist+hinton"
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    last = rows[-1]
    assert last["loss"] == pytest.approx(0.4 * last["hard"] + 0.7 * last["hinton"] + 0.5 * last["dist"], rel=1e-5)
    assert result["settings"]["kd.hinton.temperature"] == 3 and "kd.at.weight" not in result["settings"]


def test_a_combination_is_what_it_lists_in_any_order(store, tmp_path):
    few = ["kd=combine", "baseline=false"]
    folder, _ = run(store, *QUICK, *few, "kd.terms=[vid,fitnet]", kd="combine")
    other, _ = run(tmp_path, *QUICK, *few, "kd.terms=[fitnet,vid]", kd="combine")
    assert folder.name == other.name
    assert (folder / "student.safetensors").read_bytes() == (other / "student.safetensors").read_bytes()


def test_a_combination_of_one_is_that_one():
    one, choices = expand_combination(compose("kd=combine", "kd.terms=[hinton]"), {"kd": "combine"})
    alone = OmegaConf.to_container(compose().kd, resolve=True)
    assert choices["kd"] == "hinton"
    assert {name: alone[name] for name in ("terms", "weights")} == {n: one.kd[n] for n in ("terms", "weights")}


def test_a_method_of_one_view_does_beside_one_of_two_what_it_does_alone(store):
    """It sees the first view of each image; labels count on both."""
    cfg, choices = expand_combination(compose("kd=combine", "kd.terms=[crld,hinton,rkd]"), {})
    objective = build_objective(cfg.kd)
    assert choices["kd"] == "crld+hinton+rkd" and objective.views == 2 and objective.second_augment
    assert list(objective.terms) == ["crld_within", "crld_across", "hinton", "rkd", "hard"]
    torch.manual_seed(0)
    student, teacher = (Outputs(torch.randn(16, 6), torch.randn(16, 5)) for _ in range(2))
    batch = Batch(torch.rand(16, 3, 8, 8), torch.arange(8) % 6, torch.arange(8)).repeat_labels(2)
    _, parts = objective(student, teacher, batch)
    first = student.first_rows(8), teacher.first_rows(8), batch.first_views(1)
    for name in ("hinton", "rkd"):
        assert torch.equal(parts[name], objective.terms[name](*first))
    for name in ("crld_within", "crld_across"):
        assert torch.equal(parts[name], objective.terms[name](student, teacher, batch))
    hard = [objective.terms["hard"](student.first_rows(8), None, first[2])]
    hard += [objective.terms["hard"](Outputs(student.logits[8:]), None, first[2])]
    torch.testing.assert_close(parts["hard"], sum(hard))


def test_a_combination_of_one_and_two_views_goes_through_a_whole_run(store):
    """Its student learns from two views, its baseline is that of any method."""
    alone, _ = run(store, *QUICK)
    both, result = run(store, *QUICK, "kd=combine", "kd.terms=[sld,at]", kd="combine")
    assert result["baseline"]["training"]["found"]
    rows = [json.loads(row) for row in (both / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"sld_teacher", "sld_pseudo", "at", "hard"} <= set(next(row for row in rows if row["stage"] == "student"))
    assert key_of_student(store, both)["second_augment"][-1]["magnitude"] == 10
    assert "second_augment" not in key_of_student(store, alone)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kd=combine", "kd.terms=[hintn]"], "did you mean hinton"),
        (["kd=combine", "kd.terms=[hinton,hinton]"], "each only once"),
        (["kd=combine", "kd.terms=[hinton,label_smoothing]"], "set the label term differently"),
        (["kd=combine", "kd.terms=[hinton,fitnet_two_stage]"], "set the label schedule differently"),
        (["kd=combine", "kd.terms=[takd,born_again]"], "set assistants differently"),
        (["kd=combine", "kd.terms=[function_matching,hinton]"], "not a method that can be combined"),
        (["kd=combine", "kd.terms=[simkd]", "kd.hard=1"], "has no label term"),
        (["kd=takd", "kd.assistants=resnet34"], "kd.assistants must be a list"),
        (["kd=takd", "kd.assistants=[timm]"], "requires name"),
        (["kd=takd", "kd.assistants=[{teacher:resnet18,checkpoint:x.pt}]"], "does not take checkpoint here"),
        (["teacher.ensemble=3"], "teacher.ensemble must be a list"),
        (["teacher.ensemble=[-1,0]"], "a seed must be a whole number of 0 or more"),
        (["teacher.ensemble=[0,0]"], "the same network twice"),
        (["teacher.ensemble=[{teacher:resnet18,source:live}]"], "does not take source here"),
        (
            ["teacher.ensemble=[resnet18]", "teacher.mean=[0,0,0]", "teacher.std=[1,1,1]"],
            "teacher.mean does not apply to a named member",
        ),
        (["kd@baseline_kd=hinton"], "the baseline learns from labels alone"),
        (["kd@baseline_kd=dml"], "the baseline learns from labels alone"),
        (["kd@baseline_kd=cs_kd"], "the baseline learns from labels alone"),
        (["kd@baseline_kd=combine"], "the baseline learns from labels alone"),
        (["+kd.schedule.hard.start=0.9", "+kd.schedule.soft.start=0.8"], "leaves no term at 0 of the training"),
        (["kd=takd", "kd.assistants=[tinycnn]"], "kd.assistants names 'tinycnn'.*did you mean tiny_cnn"),
        (["kd=takd", "kd.assistants=[{student:tiny_cnn,with:2}]"], "does not take with here; it takes"),
        (["teacher.ensemble=[resnet9]"], "teacher.ensemble names 'resnet9'"),
        (["teacher.ensemble=[0,1]", "teacher.combine=vote"], "teacher.combine must be probabilities"),
        (["teacher.ensemble=[0,1]", "kd=simkd"], "an ensemble has no head"),
        (["teacher.ensemble=[0,1]", "kd=fitnet"], "shows none"),
        (["kd=born_again", "kd.generations=0"], "kd.generations=0: generations must be 1 to 100"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(tmp_path, overrides, message):
    with pytest.raises((ValueError, InstantiationException), match=message):
        run(tmp_path, *QUICK, *overrides)
    assert not (tmp_path / "teachers").exists()


def test_a_mixed_view_is_a_pure_function_of_seed_epoch_and_index(dataset):
    device = torch.device("cpu")
    by_two, by_thirty = (Loader(dataset, size, 3, device, mixup=0.7) for size in (20, 40))
    seen = {}
    for loader in (by_two, by_thirty):
        for batch in loader.epoch(2):
            for row, index in enumerate(batch.index.tolist()):
                image, other, share = batch.image[row], batch.mixup_target[row], batch.mixup_lam[row]
                if index in seen:
                    torch.testing.assert_close(image, seen[index][0], rtol=0, atol=1e-6)
                    assert (other, share) == seen[index][1:]
                seen[index] = image, other, share
    shares = torch.stack([share for _, _, share in seen.values()])
    assert shares.min() >= 0.5 and shares.max() <= 1
    assert 0.1 < (shares == 1).float().mean() < 0.5, "three of ten are left as they are"
    plain = {}
    for batch in Loader(dataset, 20, 3, device).epoch(2):
        assert batch.mixup_target is None and batch.mixup_lam is None
        plain |= dict(zip(batch.index.tolist(), batch.image, strict=True))
    alone = [index for index in seen if seen[index][2] == 1]
    assert alone and all(torch.equal(seen[index][0], plain[index]) for index in alone if index in plain)


def test_what_is_mixed_is_the_share_of_the_two_views(dataset):
    loader = Loader(dataset, 20, 0, torch.device("cpu"), mixup=1.0, augment=[Affine(0.5, 0.1)])
    batch = next(loader.epoch(1))
    rows, share, _ = mixture(1.0, 0.0, random_uniforms(0, 1, batch.index, DRAWS, MIXING), len(dataset.train), 16)
    partners = torch.from_numpy(dataset.train)[rows]
    plain = (next(loader.eval_batches(positions.numpy(), 20)).image for positions in (batch.index, partners))
    own, other = (loader.chain(image, 0, 1, index) for image, index in zip(plain, (batch.index, partners), strict=True))
    share = share[:, None, None, None]
    torch.testing.assert_close(batch.image, share * own + (1 - share) * other)
    assert torch.equal(batch.mixup_target, torch.from_numpy(dataset.targets)[partners])


def test_labels_of_a_mixture_count_by_their_shares():
    logits, share = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    target, other = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    batch = Batch(None, target, None, mixup_target=other, mixup_lam=share)
    soft = torch.zeros(4, 3, dtype=torch.float64)
    soft[torch.arange(4), target] += share
    soft[torch.arange(4), other] += 1 - share
    found = CrossEntropy()(Outputs(logits), None, batch)
    torch.testing.assert_close(found, -(soft * logits.log_softmax(-1)).sum(-1).mean())
