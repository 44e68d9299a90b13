"""SSKD: published values, the rows that are kept, and a head that learns before the student."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.sskd import (
    Similarity,
    Transformed,
    by_image,
    head,
    kept,
    kept_kl,
    learn_head,
    own_image,
    similarities,
)
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import DTYPES, agrees, array, entries
from tests.methods.test_contract import Lesson

WEIGHTS = ("hard", "soft", "transformed", "similarity")


def in_blocks(rows: torch.Tensor) -> torch.Tensor:
    """Return published rows, image by image, in the order of a batch, rotation by rotation."""
    return rows.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)


def batch(target: torch.Tensor) -> Batch:
    count = len(target)
    return Batch(None, target.repeat(4), torch.arange(count).repeat(4), views=4, label_blocks=1)


def objective_of(settings: dict) -> Objective:
    kd = compose(
        "kd=sskd",
        f"kd.temperature={settings['kd_T']}",
        f"kd.transformed_temperature={settings['tf_T']}",
        f"kd.similarity_temperature={settings['ss_T']}",
        f"kd.transformed_keep={settings['ratio_tf']}",
        f"kd.similarity_keep={settings['ratio_ss']}",
        *(
            f"kd.{n}={w}"
            for n, w in zip(("hard", "soft", "transformed", "similarity"), settings["weights"], strict=True)
        ),
    ).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.sampler == "rotations"
    if "similarity" in objective.terms:  # the published features are those after the heads
        objective.terms["similarity"].student = objective.terms["similarity"].teacher = nn.Identity()
    return objective


@entries("SSKD_total")
def test_the_objective_is_the_published_one(entry, dtype):
    objective = objective_of(entry["settings"])

    def loss(z_s, z_t, f_s, f_t, y):
        student, teacher = Outputs(in_blocks(z_s), in_blocks(f_s)), Outputs(in_blocks(z_t), in_blocks(f_t))
        return objective(student, teacher, batch(y))[0]

    agrees(entry, dtype, loss)


@pytest.mark.parametrize("dtype", DTYPES)
def test_written_out_the_gradient_reaches_the_features_too(dtype):
    z_s, z_t, f_s, f_t = (array(f"ss_{name}", dtype) for name in ("z_s", "z_t", "f_s", "f_t"))
    f_s.requires_grad_()
    settings = {"kd_T": 4, "tf_T": 4, "ss_T": 0.5, "ratio_tf": 1.0, "ratio_ss": 1.0, "weights": [0, 0, 0, 1]}
    outputs = [Outputs(in_blocks(z), in_blocks(f)) for z, f in ((z_s, f_s), (z_t, f_t))]
    objective_of(settings)(*outputs, batch(array("ss_y")))[0].backward()
    found, f_s.grad = f_s.grad, None
    turned = [n for n in range(16) if n % 4]
    own, given = (F.cosine_similarity(f[turned][:, None], f[::4][None], dim=-1) for f in (f_s, f_t))
    F.kl_div((own / 0.5).log_softmax(-1), (given / 0.5).softmax(-1), reduction="batchmean").mul(0.25).backward()
    torch.testing.assert_close(found, f_s.grad)


def test_rows_that_rank_first_are_kept_and_a_share_of_the_best_others():
    scores = torch.tensor([[3.0, 1, 2], [1, 3, 2], [1, 2, 3], [0, 5, 1], [2, 1, 0], [7, 8, 9.0]])
    right = torch.tensor([0, 0, 1, 2, 0, 1])  # ranks 0, 2, 1, 1, 0, 1
    for keep, rows in ((0.0, [0, 4]), (0.25, [0, 2, 4]), (0.5, [0, 2, 3, 4]), (0.9, [0, 2, 3, 4, 5]), (1.0, range(6))):
        assert kept(scores, right, keep).nonzero().flatten().tolist() == list(rows), keep
        assert torch.equal(kept(scores, right, torch.tensor(keep)), kept(scores, right, keep))
    student = torch.randn(6, 3, dtype=torch.float64)
    loss = kept_kl(student, scores.double(), right, 2.0, 0.25)
    torch.testing.assert_close(loss, soft_label_kl(student[[0, 2, 4]], scores.double()[[0, 2, 4]], 2.0))
    assert kept_kl(student[[1]], scores.double()[[1]], right[[1]], 2.0, 0.0) == 0, "nothing to learn from"


def test_rows_of_an_image_are_divided_from_each_other():
    rows = torch.tensor([[0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]).flatten()
    upright, turned = by_image(rows, batch(torch.arange(3)))
    assert upright.tolist() == [0, 1, 2] and turned.tolist() == [10, 20, 30, 11, 21, 31, 12, 22, 32]
    assert own_image(3, rows.device).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    with pytest.raises(RuntimeError, match="kd=sskd asks for a sampler of 4 blocks, and this batch has 1"):
        by_image(rows, batch(torch.arange(3))._replace(views=1))


def test_far_outputs_stay_finite_in_float32():
    z, far = (60 * array(f"ss_z_{name}", torch.float32).sign() for name in "st")
    z.requires_grad_()
    loss = kept_kl(z, far, array("ss_y").repeat(4), 1.0, 0.5)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    zero = torch.zeros(4, 3, requires_grad=True)
    similarities(zero, torch.zeros(12, 3)).sum().backward()
    assert zero.grad.isfinite().all()


def test_a_head_learns_to_find_the_turned_image_and_the_teacher_stays():
    torch.manual_seed(0)
    images = torch.randn(100, 1, 32)
    embeddings = torch.cat([images, images.roll(1, -1) + 0.3 * torch.randn(100, 3, 32)], 1)

    def found(layers: nn.Module) -> float:
        with torch.no_grad():
            features = layers(embeddings)
            scores = similarities(features[:, 0], features[:, 1:].flatten(0, 1))
        return (scores.argmax(-1) == own_image(100, scores.device)).float().mean().item()

    layers = head(32)
    again, before = copy.deepcopy(layers), found(layers)
    with torch.no_grad():  # as where a method is tried
        learn_head(layers, embeddings, 60, 0.05, torch.Generator().manual_seed(1))
    learn_head(again, embeddings, 60, 0.05, torch.Generator().manual_seed(1))
    assert found(layers) > before + 0.3 and found(layers) > 0.6
    assert all(torch.equal(p, q) for p, q in zip(layers.parameters(), again.parameters(), strict=True))
    assert all(p.grad is None for p in layers.parameters())


def test_the_head_learns_from_rotations_of_training_images():
    lesson = Lesson("sskd", "kd.head_epochs=2")
    term = lesson.objective.terms["similarity"]
    assert term.context is None and not any(p.requires_grad for p in term.teacher.parameters())
    untrained = Lesson("sskd", "kd.head_epochs=0").objective.terms["similarity"].teacher
    assert not torch.equal(term.teacher[0].weight, untrained[0].weight)
    with pytest.raises(RuntimeError, match="call bind before setup"):
        Similarity().setup(lesson.answer, lesson.answer)


@pytest.mark.parametrize(("limit", "rows"), [(30, range(30)), (10, range(0, 30, 3)), (8, range(0, 30, 4))])
def test_of_many_images_some_at_equal_distances_are_taken(monkeypatch, limit, rows):
    import kd.methods.sskd as module

    seen = []

    class Watched(Similarity):
        def setup(self, student, teacher):
            seen.append(module.embeddings_of(self.context))
            super().setup(student, teacher)

    monkeypatch.setattr(module, "Similarity", Watched)
    Lesson("sskd", "kd.head_epochs=0")
    monkeypatch.setattr(module, "HEAD_IMAGES", limit)
    Lesson("sskd", "kd.head_epochs=0")
    whole, some = seen
    assert whole.shape == (30, 4, 64) and len(some) <= limit
    torch.testing.assert_close(some, whole[list(rows)])
    assert not torch.allclose(whole[:, 0], whole[:, 1])


def test_what_means_nothing_is_refused():
    for term, name in ((Transformed, "transformed"), (Similarity, "similarity")):
        with pytest.raises(ValueError, match=f"kd.{name}_temperature"):
            term(0.0)
        with pytest.raises(ValueError, match=f"kd.{name}_keep is a share"):
            term(1.0, 1.5)
    with pytest.raises(ValueError, match="kd.head_epochs must be 0 or more and kd.head_lr above 0"):
        Similarity(head_lr=0.0)
