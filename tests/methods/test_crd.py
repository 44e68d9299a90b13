"""CRD: published values through the module, negatives, memories, saved state, and several processes."""

from __future__ import annotations

import copy
import math
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods import crd
from kd.methods.crd import CRD, contrast, log_partition, log_scores, momentum_update, sample_negatives
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, entries

TARGETS = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0, 2, 0, 1, 2, 2, 0, 1, 2])
TRAIN = torch.tensor([15, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12])  # 3 of class 0, 3 of 1, 6 of 2


def context(targets=TARGETS, train=TRAIN) -> Context:
    return Context(None, None, None, None, targets, train, 8)


def built(widths=(5, 7), where: Context | None = None, dtype=torch.float64, **settings) -> CRD:
    torch.manual_seed(0)
    term = CRD(**settings)
    assert term.bind(where or context()) is None
    student, teacher = (Outputs(torch.zeros(2, 3), torch.zeros(2, width)) for width in widths)
    term.setup(student, teacher)
    return term.to(dtype).train()


def batch(index, epoch: int = 1) -> Batch:
    index = torch.as_tensor(index)
    return Batch(None, TARGETS[index], index, epoch)


def shown(count: int, seed: int = 0, dtype=torch.float64) -> tuple[Outputs, Outputs]:
    generator = torch.Generator().manual_seed(seed)
    own, given = (torch.randn(count, width, dtype=torch.float64, generator=generator).to(dtype) for width in (5, 7))
    return Outputs(None, own), Outputs(None, given)


@entries("CRD")
def test_the_loss_is_the_published_one(entry, dtype):
    """A CRD term with given layers, memories and negatives; Z from the first batch, or as given."""
    settings = entry["settings"]
    everything = torch.arange(settings["N"])

    def loss(student, teacher, Ws, bs, Wt, bt, student_memory, teacher_memory, index, rows):
        assert torch.equal(rows[:, 0], index) and rows.shape[1] == settings["K"] + 1
        given = {name: settings[name] for name in ("dim", "eps")} | {"temperature": settings["tau"]}
        term = built((16, 32), context(everything % 4, everything), dtype, **given)
        term.rows = lambda batch: rows
        state = {"student.weight": Ws, "student.bias": bs, "teacher.weight": Wt, "teacher.bias": bt}
        state |= {"student_memory": student_memory, "teacher_memory": teacher_memory}
        if isinstance(settings["Z"], dict):
            z = torch.tensor([settings["Z"]["Z_s"], settings["Z"]["Z_t"]], dtype=dtype)
            state |= {"log_z": z.log(), "started": torch.tensor(True)}
        return torch.func.functional_call(term, state, (Outputs(None, student), Outputs(None, teacher), None))

    agrees(entry, dtype, loss)


def test_one_image_and_two_negatives_by_hand():
    scores = torch.tensor([[0.0, math.log(2), math.log(0.5)]], dtype=torch.float64)  # exp: 1, 2 and 1/2
    log_z = torch.tensor(math.log(4), dtype=torch.float64)  # x: 1/4, 1/2, 1/8; c = 2/8
    expected = -(math.log(1 / 2) + math.log((1 / 4) / (3 / 4)) + math.log((1 / 4) / (3 / 8)))
    assert contrast(scores, log_z, 8, eps=0).item() == pytest.approx(expected, rel=1e-12)
    assert log_partition(scores.logsumexp(-1), 3, 8).exp().item() == pytest.approx(8 * 3.5 / 3, rel=1e-12)


def test_scores_are_cosines_with_the_rows_asked_for():
    shown_, memory = torch.randn(3, 4), torch.randn(9, 4)
    rows = torch.tensor([[0, 5, 8], [1, 1, 1], [7, 2, 0]])
    got = log_scores(shown_, memory, rows, 0.1)
    expected = [[(shown_[b] @ memory[row] / 0.1).item() for row in rows[b]] for b in range(3)]
    torch.testing.assert_close(got, torch.tensor(expected))


def test_memories_move_towards_what_was_shown_after_it_was_scored():
    term = built(momentum=0.75)
    before = [term.student_memory.clone(), term.teacher_memory.clone()]
    own, given = shown(3)
    term(own, given, batch([4, 0, 9]))
    for memory, was, layer, x in zip(
        (term.student_memory, term.teacher_memory), before, (term.student, term.teacher), (own, given), strict=True
    ):
        now = layer(x.embedding).detach().numpy()
        expected = was.numpy().copy()
        for row, image in enumerate([4, 0, 9]):
            mixed = 0.75 * expected[image] + 0.25 * now[row] / np.linalg.norm(now[row])
            expected[image] = mixed / np.linalg.norm(mixed)
        assert not memory.requires_grad and not torch.equal(memory, was)
        np.testing.assert_allclose(memory.numpy(), expected, atol=1e-14)


def test_evaluation_remembers_nothing():
    term = built().eval()
    before = copy.deepcopy(term.state_dict())
    term(*shown(3), batch([4, 0, 9]))
    assert all(torch.equal(value, before[name]) for name, value in term.state_dict().items())


def test_z_is_that_of_the_first_batch_for_ever():
    term = built()
    own, given = shown(3)
    with torch.no_grad():
        rows = term.rows(batch([4, 0, 9]))
        directions = (
            F.normalize(term.student(own.embedding), dim=-1),
            F.normalize(term.teacher(given.embedding), dim=-1),
        )
        expected = [
            math.log(12 * (x @ memory.T / 0.07).exp().gather(1, rows).mean())
            for x, memory in zip(directions, (term.teacher_memory, term.student_memory), strict=True)
        ]
    term(own, given, batch([4, 0, 9]))
    assert term.started and term.log_z.tolist() == pytest.approx(expected, rel=1e-10)
    first = term.log_z.clone()
    term(*shown(3, seed=1), batch([1, 2, 3]))
    assert torch.equal(term.log_z, first)


@pytest.mark.parametrize(("negatives", "count"), [(4, 4), (6, 6), (16384, 6)])
def test_negatives_are_different_training_images_of_other_classes(negatives, count):
    """At most 6: the largest class leaves no more images of other classes."""
    term = built(negatives=negatives)
    indices = [0, 2, 15, 4]
    for epoch in range(50):
        rows = term.rows(batch(indices, epoch))
        assert rows[:, 0].tolist() == indices and rows.shape == (4, 1 + count)
        for image, negative in zip(indices, rows[:, 1:].tolist(), strict=True):
            assert len(set(negative)) == count and set(negative) <= set(TRAIN.tolist())
            assert all(TARGETS[other] != TARGETS[image] for other in negative)
    if count == 6:
        assert set(rows[2, 1:].tolist()) == {i for i in TRAIN.tolist() if TARGETS[i] != 2}


def test_all_images_of_other_classes_are_equally_likely():
    others, rounds = torch.tensor([13]), 4000
    seed = torch.tensor(7)
    counts = sum(
        torch.bincount(sample_negatives(seed, epoch, torch.tensor([5]), others, 5)[0], minlength=13)
        for epoch in range(rounds)
    )
    spread = math.sqrt(rounds * 5 / 13 * 8 / 13)
    assert counts.sum() == 5 * rounds and (counts - rounds * 5 / 13).abs().max() < 4 * spread


def test_draws_are_those_of_integers_without_a_bound():
    """The hash follows splitmix64, on numbers modulo 2^64; then one number a stratum, and a rotation."""
    top = 2**64

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % top
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % top
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    for seed, epoch, index, others, count in [(0, 0, 0, 9, 4), (2**61 + 12345, 300, 1_281_166, 1_279_867, 6)]:
        image = mix(mix(mix((seed * golden + 1) % top) ^ ((epoch * golden + 2) % top)) ^ ((index * golden + 3) % top))
        bits = [mix((image + k * golden) % top) % 2**62 for k in range(1, count + 2)]
        edges = [k * others // count for k in range(count + 1)]
        expected = [(bits[0] + edges[k] + bits[k + 1] % (edges[k + 1] - edges[k])) % others for k in range(count)]
        got = sample_negatives(torch.tensor(seed), epoch, torch.tensor([index]), torch.tensor([others]), count)
        assert got.tolist() == [expected]


def test_negatives_depend_on_seed_epoch_and_index_alone():
    term = built(negatives=4)
    whole = term.rows(batch([0, 2, 15, 4]))
    before = torch.get_rng_state()
    assert torch.equal(term.rows(batch([4, 15]))[:, 1:], whole[[3, 2], 1:])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(term.rows(batch([0, 2, 15, 4], epoch=2)), whole)
    term.seed += 1
    assert not torch.equal(term.rows(batch([0, 2, 15, 4])), whole)
    assert not torch.equal(whole[0, 1:], term.rows(batch([3]))[0, 1:])  # another image of class 0


def test_a_training_goes_on_as_it_would_have():
    term, own = built(), [shown(4, seed) for seed in range(3)]
    term(*own[0], batch([0, 1, 2, 3]))
    saved = copy.deepcopy(term.state_dict())
    expected = [term(*own[1], batch([4, 5, 2, 0])), term(*own[2], batch([0, 1, 2, 3], 2))]
    torch.manual_seed(99)
    other = CRD()
    other.bind(context())
    other.setup(*(Outputs(None, torch.zeros(2, width)) for width in (5, 7)))
    other.double().train().load_state_dict(saved)
    assert [other(*own[1], batch([4, 5, 2, 0])), other(*own[2], batch([0, 1, 2, 3], 2))] == expected


def test_the_student_learns_to_be_recognised():
    """Compare two students, one of which returns the row of the image in the teacher's memory."""
    term = built((8, 8), dim=8)
    index = [0, 2, 15, 4]
    for layer in (term.student, term.teacher):
        layer.weight.data, layer.bias.data = torch.eye(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    known, given = Outputs(None, term.teacher_memory[index]), Outputs(None, term.student_memory[index])
    mixed_up = Outputs(None, term.teacher_memory[index[::-1]])
    term.eval()
    assert term(known, given, batch(index)) < term(mixed_up, given, batch(index)) - 1


@pytest.mark.parametrize("case", ["cold", "huge", "zeros", "identical", "equal"])
def test_value_and_gradient_are_finite(case):
    term = built(
        (5, 5) if case == "equal" else (5, 7), dtype=torch.float32, temperature=0.001 if case == "cold" else 0.07
    )
    own, given = (x.embedding for x in shown(4, dtype=torch.float32))
    if case == "huge":
        own = own * 1e6
    elif case == "zeros":
        own = own * 0
    elif case == "identical":
        own, given = own[:1].repeat(4, 1), given[:1].repeat(4, 1)
    elif case == "equal":
        given = own.clone()
        term.teacher.load_state_dict(term.student.state_dict())
        term.teacher_memory = term.student_memory.clone()
    own.requires_grad_()
    for epoch in range(2):
        loss = term(Outputs(None, own), Outputs(None, given), batch([0, 2, 15, 4], epoch))
        loss.backward()
        assert loss.isfinite() and all(x.grad.isfinite().all() for x in (own, *term.parameters()))


class FakeDistributed:
    """A fake of torch.distributed: each thread is a process, its name the rank."""

    def __init__(self, size: int):
        self.size, self.sent, self.barrier = size, [None] * size, threading.Barrier(size, timeout=20)

    def is_available(self):
        return True

    is_initialized = is_available

    def get_world_size(self):
        return self.size

    def all_gather(self, found, own):
        self.sent[int(threading.current_thread().name)] = own.clone()
        self.barrier.wait()
        assert len({x.shape for x in self.sent}) == 1  # as NCCL and gloo require
        for place, sent in zip(found, self.sent, strict=True):
            place.copy_(sent)
        self.barrier.wait()


def test_memories_of_several_processes_stay_those_of_one(monkeypatch):
    """Slices of 2, 2 and 1 images: the same memories, the same Z, and the same loss on the mean."""
    size, index = 3, torch.tensor([0, 2, 15, 4, 9])
    slices = [torch.arange(5)[start::size].sort().values for start in range(size)]
    alone, terms = built(), [built() for _ in range(size)]
    steps = [shown(5, seed) for seed in range(2)]
    losses = [[None] * size for _ in steps]
    expected = [alone(*outputs, batch(index, epoch)).item() for epoch, outputs in enumerate(steps)]

    def process(rank):
        for epoch, outputs in enumerate(steps):
            part = [Outputs(None, x.embedding[slices[rank]]) for x in outputs]
            losses[epoch][rank] = terms[rank](*part, batch(index[slices[rank]], epoch)).item() * len(slices[rank]) / 5

    monkeypatch.setattr(crd, "dist", FakeDistributed(size))
    threads = [threading.Thread(target=process, args=(rank,), name=str(rank)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(parts) for parts in losses] == pytest.approx(expected, rel=1e-12)
    for term in terms:
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(term.state_dict()[name], value)


def test_moved_rows_leave_the_old_memory_as_it_was():
    memory = F.normalize(torch.randn(6, 3), dim=-1)
    before = memory.clone()
    after = momentum_update(memory, torch.tensor([5, 1]), torch.eye(3)[:2], 0.0)
    assert torch.equal(memory, before) and torch.equal(after[[5, 1]], torch.eye(3)[:2])
    assert torch.equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])


def test_the_yaml_reaches_the_term():
    overrides = ["negatives=3", "temperature=0.2", "momentum=0.25", "dim=4", "eps=0.001", "hard=0.5", "weight=2"]
    node = compose("kd=crd", *(f"kd.{override}" for override in overrides)).kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    term = objective.terms["crd"]
    assert (term.negatives, term.temperature, term.momentum, term.dim, term.eps) == (3, 0.2, 0.25, 4, 0.001)
    assert objective.weights == {"hard": 0.5, "crd": 2}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"negatives": 0}, "kd.negatives must be 1 or more"),
        ({"temperature": 0}, "kd.temperature must be above 0"),
        ({"momentum": 1.0}, r"kd.momentum must lie in \[0, 1\)"),
        ({"dim": 0}, "kd.dim is a width"),
        ({"eps": math.nan}, "kd.eps must not be below 0"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        CRD(**settings)


def test_what_cannot_work_is_refused():
    own, given = shown(2)
    for silent in (None, Outputs(torch.zeros(2, 3))):
        with pytest.raises(ValueError, match=r"the teacher shows none.*teacher.source=auto"):
            CRD().setup(own, silent)
    with pytest.raises(RuntimeError, match="call bind before setup"):
        CRD().setup(own, given)
    with pytest.raises(ValueError, match="all training images are of one class"):
        CRD().bind(context(torch.tensor([0, 0, 1]), torch.tensor([0, 1])))
