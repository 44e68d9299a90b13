"""ND: published values, class means over batches, and what norm and direction add to the loss."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods.nd import NormDirection, class_means, norm_direction
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_contract import Lesson, over, see


def shown(embedding) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 6), embedding)


def built(student, teacher, means) -> NormDirection:
    """A term whose pass shows one image of each class, whose embedding is the class's mean."""
    term, every = NormDirection(), torch.arange(len(means))
    pairs = [(shown(means), Batch(None, every, every))]
    term.bind(Context(None, None, None, None, every, every, 16, lambda network, needs: iter(pairs)))
    term.setup(shown(student), shown(teacher))
    return term.double()


@entries("ND")
def test_nd_is_the_published_one(entry, dtype):
    weight = entry["settings"]["weight"]
    agrees(entry, dtype, lambda own, given, means, y: weight * norm_direction(own, given, means[y]))


def test_through_the_module_each_image_has_the_mean_of_its_class():
    own, given, means, target = (array(name) for name in ("nd_s", "nd_t", "nd_c", "y_c6"))
    term = built(own, given, means)
    loss = term(shown(own), shown(given), Batch(None, target, None))
    torch.testing.assert_close(loss, norm_direction(own, given, means[target]))
    narrow = built(own[:, :5], given, means)
    narrow.eval()
    expected = norm_direction(narrow.widen(own[:, :5]), given, means[target])
    torch.testing.assert_close(narrow(shown(own[:, :5]), shown(given), Batch(None, target, None)), expected)


def test_means_over_batches_are_those_of_all_images_and_an_absent_class_has_zeros():
    embedding, target = torch.randn(10, 4).double(), torch.tensor([0, 2, 2, 0, 2, 3, 3, 0, 2, 0])
    parts = [(shown(embedding[k]), Batch(None, target[k], k)) for k in torch.arange(10).split(4)]
    means = class_means(parts, 5)
    for label in (0, 2, 3):
        torch.testing.assert_close(means[label], embedding[target == label].mean(0))
    assert not means[[1, 4]].any()


def test_the_means_are_those_of_the_teacher_over_the_training_images_and_are_saved():
    lesson = Lesson("nd")
    term, images = lesson.objective.terms["nd"], torch.arange(30)
    expected = class_means(over(images, 16, lesson.teacher, {"embedding"}), 6)
    torch.testing.assert_close(term.means, expected, rtol=0, atol=0)
    assert "terms.nd.means" in lesson.objective.state_dict() and not lesson.teacher.training
    by_hand = torch.cat([batch.image for _, batch in over(images, 16, lesson.teacher, {"embedding"})])
    embedding = see(lesson.teacher, by_hand, {"embedding"}).embedding
    torch.testing.assert_close(term.means[4], embedding[images % 6 == 4].mean(0).detach())


def test_a_shorter_student_gains_by_growing_and_a_longer_one_only_by_turning():
    means = array("nd_c")
    teacher = 2 * means
    short, long = (0.5 * means).requires_grad_(), (8 * means).requires_grad_()
    assert norm_direction(teacher, teacher, means).item() == pytest.approx(0, abs=1e-12)
    loss = norm_direction(short, teacher, means)
    assert loss.item() == pytest.approx(0.75)
    (slope,) = torch.autograd.grad(loss, short)
    assert ((slope * means).sum(-1) < 0).all()
    (slope,) = torch.autograd.grad(norm_direction(long, teacher, means), long)
    assert slope.abs().max() < 1e-12
    here = norm_direction(array("nd_s"), array("nd_t"), means[array("y_c6")]).item()
    scaled = norm_direction(array("nd_s"), array("nd_t"), 9 * means[array("y_c6")]).item()
    assert here == pytest.approx(scaled, rel=1e-12)  # of the means only the direction counts


def test_embeddings_of_zeros_and_far_ones_have_finite_gradients():
    given = array("nd_t", torch.float32)
    for own, other in ((0, 1), (1, 0), (0, 0), (60, 60), (1e-6, 1)):
        student = (own * given.roll(1, 0)).requires_grad_()
        loss = norm_direction(student, other * given, given)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
    assert norm_direction(given, given, 0 * given) == 1


def test_a_stack_of_students_learns_as_separate_students_do():
    students, given = torch.randn(3, 8, 5).double(), torch.randn(8, 5).double()
    slope = torch.func.grad(lambda own: norm_direction(own, given, given.roll(1, 0)))
    torch.testing.assert_close(torch.func.vmap(slope)(students), torch.stack([slope(own) for own in students]))


def test_a_term_without_its_teacher_says_so():
    with pytest.raises(RuntimeError, match="call bind before setup"):
        NormDirection().setup(shown(torch.zeros(2, 3)), shown(torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="kd=nd compares embeddings"):
        NormDirection().setup(shown(torch.zeros(2, 3)), Outputs(torch.zeros(2, 6)))


def test_the_yaml_puts_every_number_in_its_place():
    names = ("temperature", "hard", "soft", "weight", "warmup")
    kd = compose("kd=nd", *(f"kd.{name}={value}" for name, value in zip(names, (2, 0.5, 3, 5, 0.25), strict=True))).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    assert objective.terms["soft"].temperature == 2 and objective.weights == {"hard": 0.5, "soft": 3, "nd": 5}
    assert objective.schedule == {"soft": {"rise": 0.25}}
