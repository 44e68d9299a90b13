"""RRD: published values, the memory's rows in the order of their age, and a teacher's layer that stays."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Context, Outputs
from kd.methods import crd
from kd.methods.rrd import RRD, relational_loss, replace_oldest
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_crd import FakeDistributed


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


def built(images: int = 40, dtype=torch.float64, **settings) -> RRD:
    term = RRD(dim=16, **settings)
    term.bind(Context(None, None, None, None, torch.zeros(2 * images), torch.arange(images), 16))
    term.setup(shown(array("e_s")), shown(array("e_t")))
    return term.to(dtype)


@entries("RRD")
def test_rrd_is_the_published_one(entry, dtype):
    term = built(40, dtype, temperature=entry["settings"]["tau_s"], teacher_temperature=entry["settings"]["tau_t"])

    def loss(own, given, w_s, b_s, w_t, b_t, queue):
        state = {"student.weight": w_s, "student.bias": b_s, "teacher.weight": w_t, "teacher.bias": b_t, "queue": queue}
        return torch.func.functional_call(term, state, (shown(own), shown(given), None))

    agrees(entry, dtype, loss)


def test_agreement_leaves_the_entropy_of_the_teacher():
    given, memory = (F.normalize(torch.randn(n, 16, dtype=torch.float64), dim=-1) for n in (8, 40))
    own = given.clone().requires_grad_()
    p = (given @ memory.T / 0.1).softmax(-1)
    loss = relational_loss(own, given, memory, 0.1, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-12)
    assert own.grad.abs().max() < 1e-14
    twice = relational_loss(own.repeat(2, 1), given.repeat(2, 1), memory, 0.1, 0.1)
    assert twice.item() == pytest.approx(loss.item(), rel=1e-12)
    order = torch.randperm(40)
    torch.testing.assert_close(relational_loss(own, given, memory[order], 0.1, 0.1), loss)


def test_the_oldest_rows_are_replaced_and_the_end_is_passed():
    memory, position = torch.zeros(5, 1), torch.tensor(0)
    for first in range(1, 10, 3):
        memory, position = replace_oldest(memory, position, torch.arange(first, first + 3.0)[:, None])
    assert memory.flatten().tolist() == [6, 7, 8, 9, 5] and position == 4
    memory, position = replace_oldest(memory, torch.tensor(3), torch.arange(7.0)[:, None])  # more rows than places
    assert sorted(memory.flatten().tolist()) == [2, 3, 4, 5, 6] and position == 3


def test_a_step_writes_the_teachers_rows_and_an_evaluation_does_not():
    term = built(100, memory=30)
    before = term.queue.clone()
    assert before.shape == (30, 16)
    torch.testing.assert_close(before.norm(dim=-1), torch.ones(30, dtype=torch.float64), rtol=1e-6, atol=0)
    term.eval()
    loss = term(shown(array("e_s")), shown(array("e_t")), None)
    assert torch.equal(term.queue, before) and term.position == 0
    term.train()
    torch.testing.assert_close(term(shown(array("e_s")), shown(array("e_t")), None), loss)
    assert torch.equal(term.queue[8:], before[8:]) and term.position == 8
    torch.testing.assert_close(term.queue[:8], F.normalize(term.teacher(array("e_t")), dim=-1))
    assert built(12, memory=30).queue.shape == (12, 16)  # no more rows than images


def test_the_teachers_layer_is_saved_and_does_not_learn():
    term = built()
    term(shown(array("e_s").requires_grad_()), shown(array("e_t")), None).backward()
    assert {name for name, p in term.named_parameters() if p.grad is not None} == {"student.weight", "student.bias"}
    assert {"teacher.weight", "queue", "position"} <= set(term.state_dict())


def test_the_memories_of_several_processes_stay_those_of_one(monkeypatch):
    """Slices of 3, 3 and 2 images, two steps."""
    alone, parts = built(20), [slice(0, 3), slice(3, 6), slice(6, 8)]
    terms, losses = [copy.deepcopy(alone) for _ in parts], [0.0] * 3
    expected = sum(alone(shown(array("e_s")), shown(array("e_t")), None).item() for _ in range(2))

    def process(rank):
        for _ in range(2):
            own, given = (shown(array(name)[parts[rank]]) for name in ("e_s", "e_t"))
            losses[rank] += terms[rank](own, given, None).item() * len(own.embedding) / 8

    monkeypatch.setattr(crd, "dist", FakeDistributed(3))
    threads = [threading.Thread(target=process, args=(rank,), name=str(rank)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(losses) == pytest.approx(expected, rel=1e-12)
    for term in terms:
        torch.testing.assert_close(term.state_dict(), alone.state_dict())


def test_sharp_and_far_embeddings_stay_finite_in_float32():
    for own, given, t in ((60.0, 60.0, 0.001), (0.0, 1.0, 0.1), (1.0, 0.0, 0.1), (0.0, 0.0, 0.1)):
        term = built(40, torch.float32, temperature=t, teacher_temperature=t)
        student = (own * array("e_s", torch.float32)).requires_grad_()
        loss = term(shown(student), shown(given * array("e_t", torch.float32)), None)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given, memory = (torch.randn(*shape).double() for shape in ((3, 8, 5), (8, 5), (20, 5)))
    numbers = torch.tensor([[0.1, 0.2, 1.0], [0.02, 0.1, 1.0]], dtype=torch.float64)
    stacked = torch.func.vmap(relational_loss, in_dims=(0, None, None, 0, 0))(students, given, memory, *numbers)
    alone = [relational_loss(s, given, memory, *numbers[:, i].tolist()) for i, s in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(alone))


@pytest.mark.parametrize("name", ["temperature", "teacher_temperature", "memory", "dim"])
def test_numbers_that_mean_nothing_are_refused(name):
    with pytest.raises(ValueError, match=rf"kd\.{name} must be"):
        RRD(**{name: 0})
    with pytest.raises(RuntimeError, match="call bind before setup"):
        RRD().setup(shown(array("e_s")), shown(array("e_t")))


def test_the_yaml_puts_every_number_in_its_place():
    numbers = ["kd.temperature=2", "kd.teacher_temperature=3", "kd.memory=4", "kd.dim=5", "kd.hard=0.5", "kd.weight=6"]
    kd = compose("kd=rrd", *numbers).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["rrd"]
    assert (term.temperature, term.teacher_temperature, term.memory, term.dim) == (2, 3, 4, 5)
    assert objective.weights == {"hard": 0.5, "rrd": 6}
