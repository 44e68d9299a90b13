"""Every job of the benchmark trains the same student in its own way, for real."""

from __future__ import annotations

import math

import pytest
import torch

from kd.bench import jobs as jobs_file
from kd.bench.jobs import JOBS, make_jobs
from kd.bench.naive import Naive
from kd.bench.ours import Ours
from kd.bench.torch_state import torch_state
from kd.bench.torchdistill_job import HINT, TorchDistill, classifier_of, is_installed
from kd.interfaces import Batch, Outputs

needs_torchdistill = pytest.mark.skipif(not is_installed(), reason="torchdistill is not installed")
EACH = [pytest.param(name, marks=[needs_torchdistill] * (name == "torchdistill")) for name in JOBS]


def trained(job):
    job.prepare()
    job.timed()
    return job


@pytest.mark.parametrize("name", EACH)
def test_a_job_trains_a_copy_and_leaves_torch_as_it_was(name, setup, plain):
    before = {key: value.clone() for key, value in setup.student.state_dict().items()}
    state, random = torch_state(), torch.random.get_rng_state()
    job = trained(JOBS[name](setup, plain))
    assert math.isfinite(job.train_loss) and 0 <= job.val_accuracy <= 1
    student = job.networks[-1] if job.students > 1 else job.student
    assert any(not torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in setup.student.state_dict().items())
    assert torch_state() == state and torch.equal(torch.random.get_rng_state(), random)


@needs_torchdistill
def test_torchdistill_and_a_persons_loop_do_the_same_job(setup, plain):
    """They draw the same order and views from torch's generator, so even their losses agree."""
    naive, other = trained(Naive(setup, plain)), trained(TorchDistill(setup, plain))
    assert other.train_loss == pytest.approx(naive.train_loss, rel=1e-3)
    for name, value in naive.student.state_dict().items():
        assert torch.allclose(value, other.student.state_dict()[name], atol=1e-4), name


def test_cached_logits_train_the_student_of_the_live_teacher(setup, plain):
    live, cached = (trained(Ours(setup, plain, "float32", source)) for source in ("live", "cached"))
    assert live.uses_teacher and not cached.uses_teacher
    for name, value in live.student.state_dict().items():
        assert torch.equal(value, cached.student.state_dict()[name]), name


def test_the_trial_of_a_pass_is_no_time_of_an_epoch(setup, plain):
    job = trained(JOBS["one_pass"](setup, plain))
    assert job.apart_seconds > 0 and job.remarks and "one pass: " in job.remarks[0]


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 6, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(6, (8,), generator=generator)


def our_loss(setup, student, teacher, target):
    objective = setup.plan.stages["student"].objective
    return objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]


def test_the_persons_loss_is_ours(setup, plain, logits):
    student, teacher, target = logits
    assert Naive(setup, plain).loss(student, teacher, target) == pytest.approx(
        our_loss(setup, *logits).item(), rel=1e-5
    )


@needs_torchdistill
def test_the_loss_of_torchdistill_is_ours(setup, plain, logits):
    from torchdistill.losses.registry import get_high_level_loss

    job = TorchDistill(setup, plain)
    job.prepare()
    job.refresh()
    kwargs = job.config()["criterion"]["kwargs"]["sub_terms"]["kd"]["criterion"]["kwargs"]
    assert kwargs["student_module_path"] != "." and kwargs["teacher_module_path"] != "."
    student, teacher, target = logits
    seen = {
        role: {kwargs[f"{role}_module_path"]: {"output": value}}
        for role, value in (("student", student), ("teacher", teacher))
    }
    loss = get_high_level_loss(job.config()["criterion"])(seen, {}, target)
    assert loss.item() == pytest.approx(our_loss(setup, student, teacher, target).item(), rel=1e-5)


def test_a_network_without_a_linear_classifier_is_hooked_as_a_whole():
    assert classifier_of(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 6)), 6) == "1"
    assert classifier_of(torch.nn.Conv2d(3, 6, 1), 6) == "."


def test_what_is_left_out_is_said(setup, plain, monkeypatch):
    monkeypatch.setattr(jobs_file, "is_installed", lambda: False)
    jobs, left_out = make_jobs(["torchdistill", "live", "live float32"], setup, plain)
    assert left_out["torchdistill"] == HINT
    same = jobs[0].precision == "float32"
    assert [job.name for job in jobs] == ["live"] + ["live float32"] * (not same)
    assert ("live float32" in left_out) == same
