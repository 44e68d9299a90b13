"""DiffKD on logits: published values and gradients, what is drawn, what it learns from, and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from torch.func import functional_call

from kd.interfaces import Batch, Outputs
from kd.methods.diffkd import TRAINED, DiffKD, denoise, draw, kept_variance
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson

PLACES = {  # of the published weights in ours
    "dk_trans_W": "enter.weight",
    "dk_trans_b": "enter.bias",
    "dk_ad_W1": "gate.layers.0.weight",
    "dk_ad_W2": "gate.layers.3.weight",
    "dk_ad_Wp": "gate.choose.weight",
    "dk_ad_bp": "gate.choose.bias",
    "dk_W1": "denoiser.first.0.weight",
    "dk_W2": "denoiser.first.3.weight",
    "dk_W3": "denoiser.second.0.weight",
    "dk_W4": "denoiser.second.3.weight",
    "dk_b4": "denoiser.second.3.bias",
    "dk_time": "denoiser.time.weight",
    "dk_proj_W": "leave.weight",
}


class Loss(torch.nn.Module):
    """The loss for given numbers, so that ``functional_call`` may replace weights."""

    def __init__(self, term: DiffKD):
        super().__init__()
        self.term = term

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.term.loss(*given)


def made(**settings) -> DiffKD:
    torch.manual_seed(0)
    term, logits = DiffKD(**settings), torch.zeros(8, 6, dtype=torch.float64)
    term.setup(Outputs(logits), Outputs(logits))
    return term.double()


@entries("DiffKD_logits")
def test_it_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    assert settings["train_timesteps"] == TRAINED
    term = made(temperature=settings["tau"], steps=settings["steps"]).to(dtype)
    if settings["part"] == "kd":
        term.denoising = 0.0

    def loss(student, teacher, *rest):
        given = dict(zip(entry["inputs"][2:], rest, strict=True))
        weights = {f"term.{PLACES[name]}": value for name, value in given.items() if name in PLACES}
        drawn = (given[name] for name in ("dk_noise", "dk_noise2", "dk_t"))
        return functional_call(Loss(term), weights, (student, teacher, *drawn))

    agrees(entry, dtype, loss)


def test_noise_and_steps_are_functions_of_seed_epoch_and_image():
    index, like = torch.arange(4000), torch.zeros(4000, 6, dtype=torch.float64)
    noise, removed, step = draw(3, 2, index, like)
    order = torch.randperm(4000)
    for whole, part in zip((noise, removed, step), draw(3, 2, index[order], like), strict=True):
        assert torch.equal(whole[order], part)
    for other in (draw(4, 2, index, like), draw(3, 1, index, like)):
        assert not torch.equal(other[0], noise) and not torch.equal(other[2], step)
    for normal in (noise, removed):
        assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03 and normal.isfinite().all()
    assert step.min() < 20 and step.max() > 980 and abs(step.double().mean() - 499.5) < 20
    assert (noise * removed).mean().abs() < 0.03


def test_the_steps_undo_the_noise_if_it_is_known():
    """With the true noise in each call, what comes out is the logits without it, in any number of steps."""
    kept, logits, noise = (
        kept_variance(),
        torch.randn(8, 6, dtype=torch.float64),
        torch.randn(8, 6, dtype=torch.float64),
    )
    for steps in (1, 2, 3, 5, 500):
        first = (steps - 1) * (TRAINED // (2 * steps))
        noisy = kept[first].sqrt() * logits + (1 - kept[first]).sqrt() * noise
        torch.testing.assert_close(denoise(noisy, steps, kept, lambda x, step: noise), logits)


def test_the_teacher_trains_the_model_and_the_labels_of_nothing_are_read():
    student, teacher, _ = lesson()
    term = made()
    batch = Batch(None, None, torch.arange(8), epoch=1)
    loss = term(Outputs(student.requires_grad_()), Outputs(teacher.requires_grad_()), batch)
    loss.backward()
    assert student.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in term.parameters())
    again = term(Outputs(student), Outputs(teacher), batch)
    assert torch.equal(again, loss) and not torch.equal(
        term(Outputs(student), Outputs(teacher), batch._replace(epoch=2)), loss
    )


def test_it_is_finite_at_60():
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    term = DiffKD()
    term.setup(Outputs(student), Outputs(teacher))
    student.requires_grad_()
    loss = term(Outputs(student), Outputs(teacher), Batch(None, None, torch.arange(len(student)), epoch=1))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_the_yaml_puts_every_number_in_its_place():
    node = compose("kd=diffkd", "kd.temperature=2", "kd.steps=3", "kd.denoising=0.5", "kd.hard=0.3", "kd.weight=4").kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    term = objective.terms["diffkd"]
    assert (term.temperature, term.steps, term.denoising) == (2, 3, 0.5)
    assert objective.weights == {"hard": 0.3, "diffkd": 4}


def test_senseless_settings_and_a_batch_of_one_are_refused():
    for setting in ({"temperature": 0}, {"steps": 0}, {"steps": 501}, {"steps": 2.5}, {"denoising": 0}):
        with pytest.raises(ValueError, match=f"kd.{next(iter(setting))} must be"):
            DiffKD(**setting)
    one = torch.zeros(1, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="kd=diffkd compares the images of a batch"):
        made()(Outputs(one), Outputs(one), Batch(None, None, torch.zeros(1, dtype=torch.int64)))
