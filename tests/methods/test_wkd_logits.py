"""WKD-L: published values, the transport by a plain loop over images, and the rows of classifiers."""

from __future__ import annotations

import pytest
import timm
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import classifier_rows
from kd.methods.wkd_logits import (
    WKDLogits,
    alignment_distance,
    class_features,
    cosine_distance,
    cost_of,
    target_term,
    transport_cost,
)
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.models.reclassed import PickClasses
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries
from tests.methods.test_contract import Lesson, network, over, see


def lesson(classes: int = 6, count: int = 8):
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, count, classes, dtype=torch.float64)
    return student, teacher, torch.arange(count) % classes, cosine_distance(torch.randn(classes, 9).double())


def bound(distance, *settings, **more) -> WKDLogits:
    term = WKDLogits(*settings, **more)
    term.register_buffer("distance", distance, persistent=False)
    return term


@entries("WKD_L")
def test_wkd_is_the_published_one(entry, dtype):
    at = entry["settings"]
    numbers = at["T"], at["weight"], at["lambda"], at["iterations"], at["sharpen"]
    agrees(entry, dtype, lambda z, t, y, d: called(bound(d, *numbers), z, t, y))


@entries("WKD_L_whole")
def test_so_it_is_with_all_classes(entry, dtype):
    at = entry["settings"]

    def loss(student, teacher, distance):
        cost = cost_of(distance, at["sharpen"])
        return transport_cost(student, teacher, cost, at["T"], at["lambda"], at["iterations"])

    agrees(entry, dtype, loss)


@entries("WKD_cost_CKA")
def test_the_alignment_of_classes_is_the_published_one(entry, dtype):
    def seen(features):
        distance = alignment_distance(features)
        return (distance.flatten() * torch.cos(1 + torch.arange(distance.numel()).to(features))).sum()

    agrees(entry, dtype, seen)


def test_many_iterations_move_the_one_distribution_to_the_other_at_the_least_cost():
    """Two classes beside the target: what must move is the difference of their probabilities."""
    student, teacher, target, distance = lesson(3)
    cost = cost_of(distance / 10, 1.0)
    moved = transport_cost(student, teacher, cost, 1.0, 0.01, 1000, target)
    expected = 0.0
    for own, given, y in zip(student, teacher, target.tolist(), strict=True):
        i, j = (k for k in range(3) if k != y)
        expected += cost[i, j] * (own[[i, j]].softmax(-1)[0] - given[[i, j]].softmax(-1)[0]).abs() / len(target)
    assert moved.item() == pytest.approx(expected.item(), rel=2e-2)


def test_shifts_and_batches_do_not_matter_and_the_target_is_left_out():
    student, teacher, target, distance = lesson()
    term = bound(distance)
    here = called(term, student, teacher, target).item()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    assert called(term, student + shift, teacher - 2 * shift, target).item() == pytest.approx(here, rel=1e-10)
    twice = [torch.cat([x, x]) for x in (student, teacher, target)]
    assert called(term, *twice).item() == pytest.approx(here, rel=1e-12)
    cost, raised = cost_of(distance, 1.0), student.scatter_add(1, target[:, None], torch.ones(8, 1).double())
    values = [transport_cost(z, teacher, cost, 2.0, 0.05, 10, target).item() for z in (student, raised)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_of_two_classes_the_target_is_left_and_the_term_says_so():
    student, teacher, target, distance = lesson(2)
    term = bound(distance)
    expected = target_term(student, teacher, target).item()
    assert called(term, student, teacher, target).item() == pytest.approx(expected, abs=1e-5)
    with pytest.warns(UserWarning, match="WKD with two classes: .* nothing is transported"):
        term.setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_in_float32(temperature):
    far, sure, target = array("z_s_ext").float(), array("z_t_ext").float(), array("y_ext")
    term = bound(lesson()[3].float(), temperature)
    for student in (far, -far, torch.zeros_like(far), sure):
        student = student.clone().requires_grad_()
        loss = called(term, student, sure, target)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
        exact = called(term, student.detach().double(), sure.double(), target)
        assert loss.item() == pytest.approx(exact.item(), rel=2e-4)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target, distance = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2, 8], [30, 0, 600], [0.05, 0.1, 0.05], [1, 0, 2]], dtype=torch.float64)

    def slope(student, *settings):
        *first, sharpen = settings
        term = bound(distance, *first, 10, sharpen)
        return torch.func.grad(lambda z: called(term, z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "regnety_002"])
def test_rows_are_the_weights_of_the_classifier_in_the_order_of_the_logits(name):
    inside = timm.create_model(name, num_classes=7).eval()
    teacher = Normalized(inside, (0.5,) * 3, (0.3,) * 3, reclass=PickClasses([6, 0, 3])).eval()
    rows = classifier_rows(teacher, 32, "kd=wkd_logits")
    torch.testing.assert_close(rows, inside.get_classifier().weight.detach()[[6, 0, 3]])
    assert not any(module._forward_hooks for module in teacher.modules())


def test_an_ensemble_and_a_term_without_its_teacher_are_refused():
    with pytest.raises(ValueError, match="kd=wkd_logits reads the weights of the teacher's classifier"):
        WKDLogits().bind(Context(None, Ensemble([network(0.5).eval()]), None, None, None, None, 16))
    with pytest.raises(RuntimeError, match="call bind before setup"):
        WKDLogits().setup(Outputs(torch.zeros(2, 6)), None)


@pytest.mark.parametrize("name", ["temperature", "transport", "entropy", "iterations", "sharpen"])
def test_numbers_that_mean_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"kd.{name} must"):
        WKDLogits(**{name: -1})


def test_the_yaml_puts_every_number_in_its_place():
    own = {"temperature": 3, "transport": 7, "entropy": 0.1, "iterations": 4, "sharpen": 0, "hard": 0.5, "weight": 4}
    kd = compose("kd=wkd_logits", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target, distance = lesson()
    objective.terms["wkd_logits"].register_buffer("distance", distance, persistent=False)
    loss = called(objective, student, teacher, target)[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    expected = called(bound(distance, 3.0, 7.0, 0.1, 4, 0.0), student, teacher, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * expected)


def test_the_first_images_of_each_class_are_aligned_as_many_of_each():
    embedding, target = torch.randn(11, 4), torch.tensor([0, 2, 2, 0, 1, 2, 1, 0, 2, 0, 1])
    parts = [(Outputs(None, embedding[k]), Batch(None, target[k], k)) for k in torch.arange(11).split(3)]
    for most, count in ((2, 2), (9, 3)):  # classes have 4, 3 and 4 images
        features = class_features(parts, 3, most)
        assert features.shape == (3, count, 4)
        for label in range(3):
            torch.testing.assert_close(features[label], embedding[target == label][:count])


def test_images_give_the_cost_in_place_of_the_classifier_and_it_is_saved():
    lesson, plain = Lesson("wkd_logits", "kd.images=4"), Lesson("wkd_logits")
    term = lesson.objective.terms["wkd_logits"]
    images = torch.cat([batch.image for _, batch in over(torch.arange(30), 16, lesson.teacher, {"embedding"})])
    embedding = see(lesson.teacher, images, {"embedding"}).embedding.detach()
    features = torch.stack([embedding[label::6][:4] for label in range(6)])
    torch.testing.assert_close(term.distance, alignment_distance(features), rtol=1e-4, atol=1e-4)
    assert "terms.wkd_logits.distance" in lesson.objective.state_dict() and term.needs == {"logits"}
    assert "terms.wkd_logits.distance" not in plain.objective.state_dict()
    assert not torch.allclose(term.distance, plain.objective.terms["wkd_logits"].distance, atol=0.1)
    assert lesson.loss()[0].isfinite()


def test_too_few_images_of_a_class_are_refused_by_name():
    term, targets = WKDLogits(images=4), torch.tensor([0, 1, 1, 0, 2])
    term.bind(Context(None, network(0.5), None, None, targets, torch.arange(5), 16))
    with pytest.raises(ValueError, match=r"kd.images=4 aligns .* class 2 has 1 training images"):
        term.setup(Outputs(torch.zeros(2, 3)), None)
    for settings, named in (({"images": 1}, "kd.images"), ({"images": -1}, "kd.images"), ({"fall": 2}, "kd.fall")):
        with pytest.raises(ValueError, match=named):
            WKDLogits(**settings)


def test_the_weight_of_the_transport_alone_falls_along_half_a_cosine():
    student, teacher, target, distance = lesson()
    plain, falling = bound(distance), bound(distance, fall=0.4)
    target_alone = target_term(student, teacher, target).item()
    whole = called(plain, student, teacher, target).item() - target_alone
    for progress, share in ((0.0, 1), (0.6, 1), (0.7, 0.5 + 0.5**1.5), (0.8, 0.5), (1.0, 0)):
        loss = falling(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=progress))
        assert loss.item() == pytest.approx(target_alone + share * whole, rel=1e-12)
