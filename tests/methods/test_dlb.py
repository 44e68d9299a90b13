"""DLB: published values, what is remembered of a step, and for which images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods.dlb import DLB, last_batch_kl
from kd.methods.hinton import soft_label_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, pair_of_logits


def built(rows: int = 4, classes: int = 3, **settings) -> DLB:
    term = DLB(**settings)
    every = torch.arange(9)
    term.bind(Context(None, None, None, None, every % 3, every, 16, batch_size=rows))
    term.setup(Outputs(torch.zeros(2, classes)), None)
    return term.double()


def batch(new, previous, first_row: int = 0) -> Batch:
    index = torch.tensor([*new, *previous])
    return Batch(None, index % 3, index, views=2, label_blocks=2, first_row=first_row)


def logits(count: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@entries("DLB_total")
def test_the_loss_is_the_published_one(entry, dtype):
    settings = entry["settings"]

    def loss(previous, current, past, y_previous, y_current):
        labels = F.cross_entropy(torch.cat([current, previous]), torch.cat([y_current, y_previous]))
        return labels + settings["alpha"] * last_batch_kl(previous, past, settings["T"])

    agrees(entry, dtype, loss)


@entries("DLB_total")
def test_so_it_is_after_a_step_through_objective_and_batch(entry, dtype):
    kd = compose("kd=dlb", f"kd.temperature={entry['settings']['T']}", f"kd.weight={entry['settings']['alpha']}").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.sampler == "half_previous" and not objective.needs
    objective.terms["dlb"] = built(8, 6, temperature=objective.terms["dlb"].temperature).to(dtype)

    def loss(previous, current, past, y_previous, y_current):
        step = Batch(None, torch.cat([y_previous, y_previous]), torch.arange(8).repeat(2), views=2, label_blocks=2)
        objective(Outputs(torch.cat([past, current.detach()])), None, step)
        step = step._replace(target=torch.cat([y_current, y_previous]), index=torch.arange(16).roll(8))
        return objective(Outputs(torch.cat([current, previous])), None, step)[0]

    agrees(entry, dtype, loss)


def test_the_first_step_has_no_past_and_the_next_learns_from_it():
    term, said = built(temperature=2.0), logits(8)
    first = said.clone().requires_grad_()
    loss = term(Outputs(first), None, batch([5, 1, 7, 2], [0, 3, 4, 6]))
    loss.backward()
    assert loss == 0 and not first.grad.any()
    now = logits(8, 1).requires_grad_()
    loss = term(Outputs(now), None, batch([0, 3, 4, 6], [5, 1, 7, 2]))
    torch.testing.assert_close(loss, soft_label_kl(now[4:], said[:4], 2.0))
    loss.backward()
    assert not now.grad[:4].any() and now.grad[4:].any() and not term.past.requires_grad


def test_only_images_that_were_seen_in_the_last_step_at_this_place_have_a_past():
    term, said, now = built(), logits(8), logits(8, 1)
    term(Outputs(said), None, batch([5, 1, 7, 2], [0, 3, 4, 6]))
    loss = term(Outputs(now), None, batch([0, 3, 4, 6], [5, 8, 7, 0]))
    kept = [0, 2]
    torch.testing.assert_close(loss, soft_label_kl(now[4:][kept], said[:4][kept], 3.0) * len(kept) / 4)


def test_micro_batches_have_their_own_places():
    whole, cut, said, now = built(), built(), logits(8), logits(8, 1)
    steps = ([5, 1, 7, 2], [0, 3, 4, 6]), ([0, 3, 4, 6], [5, 1, 7, 2])
    for (new, previous), z in zip(steps, (said, now), strict=True):
        expected = whole(Outputs(z), None, batch(new, previous))
        parts = []
        for rows in (slice(0, 2), slice(2, 4)):
            own = torch.cat([z[:4][rows], z[4:][rows]])
            parts.append(cut(Outputs(own), None, batch(new[rows], previous[rows], rows.start)))
        torch.testing.assert_close(sum(parts) / 2, expected)
    assert torch.equal(whole.past, cut.past) and torch.equal(whole.index, cut.index)


def test_evaluation_remembers_nothing():
    term = built().eval()
    term(Outputs(logits(8)), None, batch([5, 1, 7, 2], [0, 3, 4, 6]))
    assert (term.index == -1).all() and not term.past.any()


def test_shifts_copies_and_an_unchanged_mind():
    now, past = pair_of_logits()
    here = last_batch_kl(now, past, 3.0).item()
    assert last_batch_kl(now + now[:, :1], past - 3, 3.0).item() == pytest.approx(here, rel=1e-12)
    assert last_batch_kl(now.repeat(2, 1), past.repeat(2, 1), 3.0).item() == pytest.approx(here, rel=1e-12)
    assert last_batch_kl(now, now + 1, 3.0).item() == pytest.approx(0, abs=1e-14)


def test_far_logits_stay_finite_in_float32():
    z, past = array("z_s_ext", torch.float32).requires_grad_(), array("z_t_ext", torch.float32)
    loss = last_batch_kl(z, past, 1.0, torch.arange(len(z)) > 2)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all() and not z.grad[:3].any()


def test_what_means_nothing_is_refused():
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="kd.temperature"):
            DLB(wrong)
    with pytest.raises(RuntimeError, match="call bind before setup"):
        DLB().setup(Outputs(torch.zeros(2, 3)), None)
    with pytest.raises(RuntimeError, match="kd=dlb asks for a sampler of two blocks"):
        built()(Outputs(logits(8)), None, batch([5, 1, 7, 2], [0, 3, 4, 6])._replace(views=1))
