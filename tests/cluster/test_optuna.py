"""Searches run, and the same command resumes them."""

from __future__ import annotations

import sqlite3

import pytest

from kd.records.ledger import read_sweep
from tests.cluster.command import SMALL, environment, need, sweep

SEARCH = [*SMALL, "train.teacher.epochs=1"]


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    need("optuna")
    return tmp_path_factory.mktemp("search")


def the_study(cwd, name: str) -> tuple[list[tuple[str, list[float]]], list[tuple[float, ...]]]:
    """Return (state, values) and parameters of each trial."""
    (folder,) = (cwd / "outputs" / "sweeps").glob(name)
    with sqlite3.connect(folder / "study.db") as study:
        trials = study.execute("select trial_id, state from trials order by number").fetchall()
        column = "value from trial_values where trial_id=? order by objective"
        values = [[v for (v,) in study.execute(f"select {column}", [trial])] for trial, _ in trials]
        column = "param_value from trial_params where trial_id=? order by param_name"
        params = [tuple(v for (v,) in study.execute(f"select {column}", [trial])) for trial, _ in trials]
    return [(state, value) for (_, state), value in zip(trials, values, strict=True)], params


def test_a_study_that_is_started_again_resumes_and_repeats_nothing(cwd, home):
    for _ in range(2):
        output = sweep("experiment=search_kd", "hydra.sweeper.n_trials=4", *SEARCH, cwd=cwd, env=environment(home))
    trials, params = the_study(cwd, "search_kd-*")
    assert [state for state, _ in trials] == ["COMPLETE"] * 8
    assert len(set(params)) == 8 and all(len(found) == 3 for found in params)
    (folder,) = (cwd / "outputs" / "sweeps").iterdir()
    validation = [cell.result["student"]["training"]["best_val_accuracy"] for cell in read_sweep(folder).cells]
    assert sorted(validation) == pytest.approx(sorted(value for _, (value,) in trials))
    best = max(value for _, (value,) in trials)
    assert f"Best value: {best}" in output
    assert len(list((cwd / "outputs" / "teachers").iterdir())) == 1
    assert "alembic" not in output and "Warning" not in output


def test_two_numbers_and_a_trial_that_fails(cwd, home):
    overrides = ["experiment=search_kd_pareto", "hydra/sweeper/sampler=grid", "optimized_metric.1=student.macs"]
    grid = ["kd.temperature=choice(1e-300,2)", "student.width=choice(0.25)", "kd.alpha=choice(0.7)"]
    small = [override for override in SEARCH if not override.startswith("student.width")]
    sweep(*overrides, *grid, "train.student.lr=choice(0.004)", *small, cwd=cwd, env=environment(home), code=1)
    trials, params = the_study(cwd, "search_kd_pareto-*")
    assert sorted(state for state, _ in trials) == ["COMPLETE", "FAIL"] and len(set(params)) == 2
    (values,) = [values for state, values in trials if state == "COMPLETE"]
    assert 0 <= values[0] <= 1 and values[1] > 1000


def test_the_test_split_never_picks(cwd, home):
    overrides = ["experiment=search_kd", "optimized_metric=student.accuracy"]
    assert "the test split never picks" in sweep(*overrides, *SEARCH, cwd=cwd, env=environment(home), code=2)
