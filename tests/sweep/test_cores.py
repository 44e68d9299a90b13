"""Each job's share of the cores."""

import os

import pytest

from kd.sweep.cores import share_cores

LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"


@pytest.mark.parametrize(("jobs", "threads"), [(1, 8), (3, 2), (8, 1), (100, 1)])
def test_jobs_that_start_at_once_share_the_cores(monkeypatch, jobs, threads):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    share_cores(LOCAL, jobs)
    assert os.environ.pop("OMP_NUM_THREADS") == str(threads)


def test_the_user_and_other_launchers_decide_themselves(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    share_cores(LOCAL, 4)
    assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.delenv("OMP_NUM_THREADS")
    share_cores("hydra._internal.core_plugins.basic_launcher.BasicLauncher", 4)
    assert "OMP_NUM_THREADS" not in os.environ
