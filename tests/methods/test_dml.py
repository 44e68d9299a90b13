"""Two students teach each other: each loss trains its own network, and the peer is another network."""

from __future__ import annotations

import pytest
import torch

from kd.methods.dml import Mutual, mutual
from kd.methods.hinton import soft_label_kl
from tests.methods.test_contract import Lesson


def test_each_divergence_trains_its_own_network_alone():
    student, peer = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    to_student, to_peer = mutual(student, peer, 2.0)
    assert torch.autograd.grad(to_student, [student, peer], allow_unused=True, retain_graph=True)[1] is None
    assert torch.autograd.grad(to_peer, [student, peer], allow_unused=True)[0] is None
    torch.testing.assert_close(to_student, soft_label_kl(student, peer, 2.0))
    torch.testing.assert_close(to_peer, soft_label_kl(peer, student, 2.0))


def test_the_students_gradient_is_that_of_labels_and_peer_and_not_of_the_peers_lesson():
    lesson = Lesson("dml", "kd.weight=0.5", "kd.temperature=2")
    term = lesson.objective.terms["mutual"]
    shown = lesson.shown()
    logits = shown.logits.detach().requires_grad_()
    lesson.loss(shown._replace(logits=logits))[0].backward()
    with torch.no_grad():
        peer = term.forward_network(term.peer.train(), lesson.batch.image, frozenset()).logits
    again = logits.detach().requires_grad_()
    labels = torch.nn.functional.cross_entropy(again, lesson.batch.target)
    (labels + 0.5 * soft_label_kl(again, peer, 2.0)).backward()
    torch.testing.assert_close(logits.grad, again.grad)


def test_the_peer_has_weights_of_its_own_and_learns_the_labels():
    lesson = Lesson("dml")
    peer = lesson.objective.terms["mutual"].peer
    assert not torch.equal(next(peer.parameters()), next(lesson.student.parameters()))
    optimizer = torch.optim.AdamW(lesson.learned(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        lesson.loss()[0].backward()
        optimizer.step()
    hits = peer(lesson.batch.image).argmax(-1) == lesson.batch.target
    assert hits.float().mean() > 0.8


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="kd.temperature must be above 0"):
        Mutual(temperature=0)
