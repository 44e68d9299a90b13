"""Teacher checks: constant outputs are refused, and an accuracy below the majority class."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from kd.data.datasets.scenes.dataset import load
from kd.evaluation.metrics import accuracy
from kd.interfaces import extract_outputs
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.store.store import Store
from kd.teachers.checks import check_above_majority, check_not_constant
from tests.conftest import open_data, teacher_logits
from tests.pipeline.test_run import run

CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")
TARGETS = np.repeat(np.arange(6), [8, 12, 10, 10, 10, 10])  # the majority class has 20 % of them


def weak(logits: np.ndarray) -> None:
    check_above_majority("teacher", accuracy(logits, TARGETS), TARGETS, CLASSES, lambda: logits)


def sure(labels: np.ndarray) -> np.ndarray:
    return 5 * np.eye(6, dtype=np.float32)[labels]


CONSTANT = {
    "zero": np.zeros((60, 6)),
    "the same": np.tile(teacher_logits(1, 6), (60, 1)),
    "up to rounding": np.tile(teacher_logits(1, 6), (60, 1)) + 1e-6 * teacher_logits(60, 6),
    "up to what a softmax sees": np.tile(teacher_logits(1, 6), (60, 1)) + np.arange(60)[:, None],
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_teacher_is_refused(name):
    with pytest.raises(ValueError, match="the teacher's output is constant: it is the same for each of 60 images"):
        check_not_constant("teacher", CONSTANT[name].astype(np.float32))


def test_logits_that_are_not_finite_are_refused():
    logits = teacher_logits(60, 6)
    logits[3, 2], logits[7, :] = np.nan, np.inf
    with pytest.raises(ValueError, match="the assistant_1's logits are NaN or infinite for 2 of 60 images"):
        check_not_constant("assistant_1", logits)


def test_a_teacher_whose_outputs_vary_is_accepted():
    check_not_constant("teacher", 1e-3 * teacher_logits(60, 6))
    check_not_constant("teacher", teacher_logits(1, 6))
    weak(sure(np.full(60, 1)))  # always the majority class: not below itself
    weak(sure(TARGETS))


def test_a_teacher_below_the_majority_class_is_refused_with_both_shares():
    says = "is 18.3%, below the 20.0% of always predicting 'forest', .* input .* differently .*allow_weak=true"
    labels = np.ones(60, int)
    labels[8] = 0  # one fewer forest
    with pytest.raises(ValueError, match=says):
        weak(sure(labels))


def test_a_teacher_good_at_rare_classes_is_accepted_where_they_matter():
    targets = np.repeat([0, 1, 2], [90, 5, 5])
    labels = np.where(np.arange(100) < 25, 1, targets)  # an accuracy of 75 %; always 'buildings' has 90 %
    for balanced, predicted in ((True, labels), (False, labels), (True, np.roll(labels, 50))):
        logits = sure(predicted)
        given = ("teacher", accuracy(logits, targets), targets, CLASSES, lambda logits=logits: logits, balanced)
        if balanced and predicted is labels:
            check_above_majority(*given)
        else:
            with pytest.raises(ValueError, match="below the 90.0% of always predicting 'buildings'"):
                check_above_majority(*given)


def test_classes_in_another_order_are_recognised():
    order = [3, 0, 5, 1, 2, 4]  # what output 0, 1 ... means
    mine = np.argsort(order)[TARGETS]
    mine[::10] = 0
    with pytest.raises(
        ValueError, match="Its classes have another order, mountain, buildings, street, forest, glacier, sea: here"
    ):
        weak(sure(mine))
    with pytest.raises(ValueError, match="Perhaps its classes have another order than here"):
        weak(sure(np.zeros(60, int)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Teachers of the run's data: one by least squares, one with opposite outputs, one constant; and the outputs."""
    place = tmp_path_factory.mktemp("checks")
    size = {"train_images": 150, "test_images": 60, "image_size": 16, "val_fraction": 0.2}
    dataset = open_data(load, Store(place / "outputs"), **size)
    torch.manual_seed(0)
    network = Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std).eval()
    with torch.no_grad():
        image = torch.from_numpy(np.array(dataset.images)).permute(0, 3, 1, 2) / 255
        seen = extract_outputs(network, image, {"embedding"}).embedding
        last = network.network.classifier
        wanted = torch.eye(6)[dataset.targets]
        solved = torch.linalg.lstsq(torch.cat([seen, torch.ones(len(seen), 1)], 1), wanted).solution
        for name, sign in {"good": 1, "opposite": -1, "constant": 0}.items():
            last.weight.copy_(sign * solved[:-1].T)
            last.bias.copy_(solved[-1] if name == "constant" else sign * solved[-1])
            safetensors.torch.save_file(network.state_dict(), place / f"{name}.safetensors")
    return place


def taught(place, name: str, *overrides: str) -> dict:
    given = ["teacher=tiny_cnn", "teacher.width=0.5", f"teacher.checkpoint={place / name}.safetensors"]
    how = ["train.student.epochs=1", "baseline=false", "report=false", "latency.seconds=0"]
    return run(place / "outputs", *given, *how, *overrides)[1]


STRICT = "teacher.allow_weak=false"


def test_a_run_is_refused_before_its_student_and_its_baseline_are_trained(place):
    says = "the teacher's accuracy on the validation images is .*, below the 1.* of always predicting '"
    with pytest.raises(ValueError, match=says):
        taught(place, "opposite", STRICT, "baseline=true")
    for insist in (STRICT, "teacher.allow_weak=true"):
        with pytest.raises(ValueError, match="the teacher's output is constant"):
            taught(place, "constant", insist, "baseline=true")
    assert not (place / "outputs" / "students").exists()


def test_a_weak_teacher_is_accepted_on_request_and_where_no_term_reads_it(place):
    assert taught(place, "opposite", "teacher.allow_weak=true")["teacher"]["accuracy"] < 1 / 6
    assert taught(place, "opposite", STRICT, "kd=supervised")["student"]["training"]["epochs"] == 1


def test_a_good_teacher_is_accepted_and_an_assistant_is_checked_too(place):
    still = ["train.student.lr=1e-12", "seed=3"]  # so that it predicts "mountain", the rarest class, for every image
    with pytest.raises(ValueError, match="the assistant_1's accuracy on the validation images is"):
        taught(place, "good", STRICT, "kd=takd", "kd.assistants=[student]", *still)
    assert taught(place, "good", STRICT)["student"]["training"]["epochs"] == 1


def test_an_ensemble_is_checked_as_a_whole(place):
    member = f"{{teacher: tiny_cnn, width: 0.5, checkpoint: {place}/%s.safetensors}}"
    both = f"teacher.ensemble=[{member % 'good'},{member % 'opposite'}]"
    with pytest.raises(ValueError, match="the teacher's output is constant"):
        run(place / "outputs", both, "teacher.combine=logits")
