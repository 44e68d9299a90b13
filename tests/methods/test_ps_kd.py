"""PS-KD: published values, what the memory holds, and the share of the past."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods import crd
from kd.methods.ps_kd import PSKD, refined_cross_entropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_crd import FakeDistributed

EVERY = torch.arange(9) % 3


def built(alpha: float = 0.8) -> PSKD:
    term = PSKD(alpha)
    term.bind(Context(None, None, None, None, EVERY, torch.arange(9), 16))
    term.setup(Outputs(torch.zeros(2, 3)), None)
    return term.double()


def batch(index, progress: float = 0.5, views: int = 1) -> Batch:
    index = torch.tensor(index)
    return Batch(None, EVERY[index], index, progress=progress, views=views)


def logits(count: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@entries("PSKD")
def test_the_loss_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda z, y, past: refined_cross_entropy(z, y, past, entry["settings"]["alpha_t"]))


def test_through_the_module_the_past_is_what_was_said_last():
    term, first, second = built(), logits(4), logits(4, 1)
    asked = batch([7, 0, 3, 5], progress=0.25)
    loss = term(Outputs(first), None, asked)  # no past yet
    torch.testing.assert_close(loss, F.cross_entropy(first, asked.target))
    torch.testing.assert_close(term.memory[asked.index], first.softmax(-1))
    assert (term.memory[[1, 2, 4, 6, 8]] == 0).all()
    later = term(Outputs(second), None, asked)
    expected = refined_cross_entropy(second, asked.target, first.softmax(-1), 0.8 * 0.25)
    torch.testing.assert_close(later, expected)
    torch.testing.assert_close(term.memory[asked.index], second.softmax(-1))


def test_the_gradient_is_that_of_the_target_and_none_flows_to_the_past():
    term, asked = built(1.0), batch([0, 1], progress=1.0)
    term(Outputs(logits(2)), None, asked)
    z = logits(2, 1).requires_grad_()
    term(Outputs(z), None, asked).backward()
    torch.testing.assert_close(z.grad, (z.softmax(-1) - logits(2).softmax(-1)).detach() / 2)
    assert not term.memory.requires_grad


def test_evaluation_remembers_nothing_and_of_two_views_the_first_is_remembered():
    term = built().eval()
    term(Outputs(logits(2)), None, batch([0, 1]))
    assert (term.memory == 0).all()
    term.train()
    term(Outputs(logits(4)), None, batch([0, 1, 0, 1], views=2))
    torch.testing.assert_close(term.memory[:2], logits(4)[:2].softmax(-1))


def test_memories_of_two_processes_are_those_of_one(monkeypatch):
    said, slices = logits(3), ([0, 2], [1])
    alone, terms = built(), [built(), built()]
    alone(Outputs(said), None, batch([4, 0, 8]))

    def process(rank):
        terms[rank](Outputs(said[slices[rank]]), None, batch([[4, 8], [0]][rank]))

    monkeypatch.setattr(crd, "dist", FakeDistributed(2))
    threads = [threading.Thread(target=process, args=(rank,), name=str(rank)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for term in terms:
        torch.testing.assert_close(term.memory, alone.memory)


def test_shifts_and_copies_change_nothing_and_a_share_of_0_is_the_cross_entropy():
    z, target, past = logits(6), torch.arange(6) % 3, logits(6, 1).softmax(-1)
    here = refined_cross_entropy(z, target, past, 0.3).item()
    assert refined_cross_entropy(z + logits(6, 2)[:, :1], target, past, 0.3).item() == pytest.approx(here, rel=1e-12)
    twice = refined_cross_entropy(z.repeat(2, 1), target.repeat(2), past.repeat(2, 1), 0.3).item()
    assert twice == pytest.approx(here, rel=1e-12)
    torch.testing.assert_close(refined_cross_entropy(z, target, past, 0.0), F.cross_entropy(z, target))


def test_far_logits_stay_finite_in_float32():
    z, target = array("z_s_ext", torch.float32).requires_grad_(), array("y_ext")
    past = array("z_t_ext", torch.float32).softmax(-1)
    loss = refined_cross_entropy(z, target, past, 0.8)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    exact = refined_cross_entropy(z.detach().double(), target, past.double(), 0.8)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    students, past, target = (
        torch.stack([logits(6, n) for n in range(3)]),
        logits(6, 9).softmax(-1),
        torch.arange(6) % 3,
    )
    shares = torch.tensor([0.0, 0.4, 0.8], dtype=torch.float64)
    slope = torch.func.grad(lambda z, share: refined_cross_entropy(z, target, past, share))
    separate = [slope(z, share.item()) for z, share in zip(students, shares, strict=True)]
    torch.testing.assert_close(torch.func.vmap(slope)(students, shares), torch.stack(separate))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_share_that_means_nothing_is_refused(alpha):
    with pytest.raises(ValueError, match="kd.alpha"):
        PSKD(alpha)


def test_a_term_without_the_data_set_says_so():
    with pytest.raises(RuntimeError, match="call bind before setup"):
        PSKD().setup(Outputs(torch.zeros(2, 3)), None)


def test_the_yaml_puts_every_number_in_its_place_and_asks_for_no_teacher():
    kd = compose("kd=ps_kd", "kd.alpha=0.6", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert not objective.needs
    objective.terms["ps_kd"] = built(objective.terms["ps_kd"].alpha)
    asked = batch([0, 1, 2], progress=0.5)
    objective(Outputs(logits(3)), None, asked)
    loss = objective(Outputs(logits(3, 1)), None, asked)[0]
    refined = refined_cross_entropy(logits(3, 1), asked.target, logits(3).softmax(-1), 0.3)
    torch.testing.assert_close(loss, 0.5 * F.cross_entropy(logits(3, 1), asked.target) + 4 * refined)
