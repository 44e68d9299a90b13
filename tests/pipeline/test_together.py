"""Runs whose students train in one pass: which belong together, and what each run finds afterwards."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kd.store.store import digest
from tests.conftest import compose, weights_in
from tests.pipeline.test_run import SMALL

QUICK = [
    *SMALL,
    "teacher=tiny_cnn",
    "teacher.width=0.5",
    "report=false",
    "tracking=disabled",
    "train.precision=float32",
]


def plan_of(outputs, *overrides: str, kd: str = "hinton"):
    from kd.pipeline.execute import make_plan

    choices = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": kd}
    return make_plan(compose(*QUICK, f"kd={kd}", f"outputs={outputs}", *overrides), choices)


def slim(plans):
    from kd.pipeline.together import Shared

    shared = Shared()
    return [shared.slim(plan) for plan in plans]


def grouped(plans):
    from kd.pipeline.together import passes

    return sorted(sorted(pupil.spec.role for pupil in group) for group in passes(plans))


@pytest.mark.parametrize(
    ("others", "groups"),
    [
        (["kd.temperature=3", "kd.alpha=0.2"], [["student"] * 3]),  # one baseline is left to its run
        (["seed=1", "seed=2"], [["baseline"] * 3, ["student"] * 3]),
        (["train.student.lr=0.1", "train.student.weight_decay=0.1"], [["baseline"] * 3, ["student"] * 3]),
        (["student.width=0.5", "train.student.optimizer=sgd"], [["baseline"] * 3, ["student"] * 3]),  # one batch
        (["train.student.epochs=3", "train.batch_size=16"], []),
        (["teacher.seed=1", "kd.alpha=0.5"], [["student"] * 2]),
        (["kd.alpha=0", "kd.temperature=3"], [["student"] * 2]),  # without a teacher, it is the baseline
    ],
)
def test_a_pass_has_one_data_set_teacher_and_length(tmp_path, others, groups):
    assert grouped(slim([plan_of(tmp_path), *(plan_of(tmp_path, other) for other in others)])) == groups


def test_methods_that_read_the_same_of_a_teacher_share_it(tmp_path):
    plans = slim([plan_of(tmp_path, kd=kd) for kd in ("hinton", "dkd", "at", "fitnet", "takd")])
    assert grouped(plans) == [["assistant_1", "student", "student"], ["student"] * 2]
    assert len({id(plan.teachers[0].network) for plan in plans}) == 1


def test_methods_of_one_and_of_two_views_share_a_pass_and_keep_their_own_batches(tmp_path):
    methods = [plan_of(tmp_path, kd=kd) for kd in ("hinton", "crld", "sld")]
    plans = slim([*methods, plan_of(tmp_path, "augment@second_augment=trivial", kd="crld")])
    assert grouped(plans) == [["student"] * 4]
    streams = [plan.stages["student"].loader.stream for plan in plans]
    assert streams[1] == streams[2] and len(set(streams)) == 3
    assert [plan.stages["student"].loader.views for plan in plans] == [1, 2, 2, 2]
    caches = [digest(plan.keys.logit_caches["student"]) for plan in plans]
    assert caches[1] == caches[2] and len(set(caches)) == 3
    assert {plan.stages["baseline"].loader.stream for plan in plans} == {streams[0]}


def logits(outputs, spec):
    return np.load(outputs / spec.kind / spec.name / "test_logits.npy")


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """Four students of two seeds, and two baselines, trained in stacks."""
    from kd.pipeline.together import train_together

    outputs = tmp_path_factory.mktemp("passed")
    cells = [(t, seed) for t in (2, 5) for seed in (0, 1)]
    overrides = [[f"kd.temperature={t}", f"seed={seed}"] for t, seed in cells]
    plans = slim([plan_of(outputs, *own) for own in overrides])
    train_together(plans, always=True)
    return outputs, overrides, plans


def test_a_run_finds_its_student_and_is_as_if_alone(passed, tmp_path, capsys):
    from kd.pipeline.execute import execute

    outputs, overrides, plans = passed
    assert len(list((outputs / "students").iterdir())) == 6 and len(list((outputs / "teachers").iterdir())) == 1
    assert not list((outputs / "unfinished").iterdir())
    for own, plan in zip(overrides, plans, strict=True):
        made = execute(plan_of(outputs, *own))
        alone = execute(plan_of(tmp_path, *own))
        assert made.folder.name == alone.folder.name
        assert not made.result["student"]["training"]["found"] and made.result.keys() == alone.result.keys()
        names = [path.name for path in sorted(made.folder.iterdir())]
        assert names == [path.name for path in sorted(alone.folder.iterdir())]
        rows = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (made.folder, alone.folder)]
        for line, right in zip(*rows, strict=True):
            found, expected = json.loads(line), json.loads(right)
            assert found.keys() == expected.keys() and found["stage"] == expected["stage"]
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        for role in ("student", "baseline"):
            spec = plan.stages[role]
            np.testing.assert_allclose(logits(outputs, spec), logits(tmp_path, spec), rtol=0.02, atol=0.02)


def test_what_is_in_the_store_or_being_made_is_left_out(passed, tmp_path):
    from kd.pipeline.together import train_together

    outputs, overrides, plans = passed
    assert grouped(plans) == []
    before = {path: path.stat().st_mtime_ns for path in (outputs / "students").rglob("*")}
    train_together(plans)
    assert before == {path: path.stat().st_mtime_ns for path in (outputs / "students").rglob("*")}
    others = slim([plan_of(tmp_path, f"kd.temperature={t}", "baseline=false") for t in (2, 3, 4)])
    busy = others[1].stages["student"]
    with others[1].store.claim(busy.kind, busy.name) as publish:
        assert publish
        train_together(others, students=1)
    made = {path.name for path in (tmp_path / "students").iterdir()}
    assert made == {plan.stages["student"].name for plan in (others[0], others[2])}


def test_a_pass_in_turn_publishes_the_bytes_of_a_run_alone(tmp_path):
    from kd.pipeline.execute import execute
    from kd.pipeline.together import train_together

    own = [["kd.temperature=2"], ["kd.temperature=3"]]
    train_together(slim([plan_of(tmp_path / "pass", *each, "baseline=false") for each in own]), students=1)
    for each in own:
        folder = execute(plan_of(tmp_path / "alone", *each, "baseline=false")).folder
        (student,) = [
            path
            for path in (tmp_path / "pass" / "students").glob("*/network.safetensors")
            if path.read_bytes() == weights_in(folder / "student.safetensors")
        ]
        assert (tmp_path / "alone" / "students" / student.parent.name).is_dir()


def test_a_student_that_diverges_is_left_to_its_run(tmp_path, capsys):
    from kd.pipeline.together import train_together

    plans = slim([plan_of(tmp_path, f"kd.temperature={t}", "baseline=false") for t in ("1e-300", "2", "4")])
    train_together(plans, always=True)
    made = {path.name for path in (tmp_path / "students").iterdir()}
    assert made == {plan.stages["student"].name for plan in plans[1:]}


def test_memory_bounds_the_students_of_a_pass(tmp_path, monkeypatch):
    from kd.pipeline import together

    plans = slim([plan_of(tmp_path, f"kd.temperature={t}") for t in (2, 3, 4)])
    (pupils,) = together.passes(plans)
    size = sum(p.nbytes for p in pupils[0].spec.network.parameters())
    assert together.how_many_fit(pupils) > 100
    monkeypatch.setattr(together, "_free_memory", lambda: 4.5 * size * together.COPIES)
    assert together.how_many_fit(pupils) == 2
