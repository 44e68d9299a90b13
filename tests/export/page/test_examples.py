"""The eight test images: the same at every export, of all classes, with mistakes among them."""

from __future__ import annotations

import numpy as np

from kd.export.page.examples import choose_rows, pick_examples


def logits(answers: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[answers]


def drawn(seed: int, count: int = 200, classes: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, classes, count)
    student = np.where(random.random(count) < 0.85, target, (target + 1) % classes)
    baseline = np.where(random.random(count) < 0.75, target, (target + 2) % classes)
    return target, logits(student, classes), logits(baseline, classes)


def test_right_wrong_and_gained_over_all_classes():
    for seed in range(20):
        target, student, baseline = drawn(seed)
        rows = choose_rows(target, student, baseline, f"key {seed}")
        right = student[rows].argmax(1) == target[rows]
        gained = right & (baseline[rows].argmax(1) != target[rows])
        assert len(set(rows)) == 8 and (~right).sum() == 2 and gained.sum() == 2
        assert np.bincount(target[rows], minlength=6).max() <= 2 and len(set(target[rows])) >= 5
        assert list(target[rows]) == sorted(target[rows])


def test_the_key_determines_them():
    target, student, baseline = drawn(0)
    rows = choose_rows(target, student, baseline, "a")
    assert np.array_equal(rows, choose_rows(target, student, baseline, "a"))
    assert not np.array_equal(rows, choose_rows(target, student, baseline, "b"))


def test_few_images_no_baseline_no_mistake_and_one_class():
    target = np.array([0, 1, 0])
    assert list(choose_rows(target, logits(target, 2), None, "")) == [0, 2, 1]
    target = np.zeros(30, np.int64)
    assert len(choose_rows(target, np.ones((30, 1)), np.ones((30, 1)), "")) == 8
    assert len(choose_rows(target[:0], np.ones((0, 1)), None, "")) == 0


def test_images_labels_and_logits_belong_together(trained):
    examples = pick_examples(trained.dataset, trained.predictions, "key")
    assert examples.images.shape == (8, 40, 40, 3) and examples.images.dtype == np.uint8
    assert list(examples.logits) == ["teacher", "student", "baseline"]
    for image, target, row in zip(examples.images, examples.targets, examples.logits["student"], strict=True):
        place = next(k for k in trained.dataset.test if np.array_equal(trained.dataset.images[k], image))
        assert trained.dataset.targets[place] == target
        assert np.array_equal(row, trained.predictions["student"][list(trained.predictions["index"]).index(place)])
