"""Figures work with any number of classes, any script and any shape of image, and stay small and readable."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from kd.report.figures import style
from kd.report.figures.confusion import confusion, confusion_difference, rows_to_percent
from kd.report.figures.curves import per_class_scores, reliability, training_curves
from kd.report.figures.images import attention_maps, disagreement_grid, prediction_grid

LABELS = ("teacher", "student", "baseline")


def _logits(count: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, classes)).astype(np.float32)


def _save(figure, path, **options) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph or a layout that does not fit is a warning
        style.save(figure, path, **options)
    image = Image.open(path)
    image.load()
    return image


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_matrices_and_scores_for_few_and_many_classes(tmp_path, classes):
    random = np.random.default_rng(0)
    names = [f"class number {k}" for k in range(classes)]
    counts = random.integers(0, 50, (classes, classes))
    counts[0] = 0  # a class without test images
    made = [
        confusion(counts, names, "teacher"),
        confusion_difference({"student − teacher": rows_to_percent(counts) - 10}, names),
        per_class_scores({label: np.r_[np.nan, random.random(classes - 1)] for label in LABELS}, names),
    ]
    for k, figure in enumerate(made):
        path = tmp_path / f"{k}.png"
        image = _save(figure, path)
        assert image.width == round(style.WIDTH * style.DPI)
        assert 4_000 < path.stat().st_size < 250_000


def test_rows_of_a_confusion_matrix_become_percent():
    np.testing.assert_allclose(rows_to_percent(np.array([[3, 1], [0, 0]])), [[75, 25], [0, 0]])


def test_equal_matrices_have_a_difference_of_zero_that_can_be_drawn(tmp_path):
    _save(confusion_difference({"student − teacher": np.zeros((3, 3))}, ["a", "b", "c"]), tmp_path / "d.png")


@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 64, 3)])
def test_grids_hold_images_of_any_shape(tmp_path, shape):
    random = np.random.default_rng(1)
    target = random.integers(0, 4, 7)
    images = random.integers(0, 256, (7, *shape), dtype=np.uint8)
    names = ["$5 and $6", "p|pe", "غابة", "山と海" * 20]
    teacher, student = _logits(7, 4, 1), _logits(7, 4, 2)
    made = [
        prediction_grid(images[:1], target[:1], teacher[:1], names, "teacher"),
        disagreement_grid(images, target, teacher, student, names, 12),
    ]
    for k, figure in enumerate(made):
        path = tmp_path / f"{k}.png"
        image = _save(figure, path)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        inks = {tuple(int(ink[j : j + 2], 16) for j in (1, 3, 5)) for ink in (style.RIGHT, style.WRONG)}
        assert tuple(pixels[0]) == (255, 255, 255)
        assert inks & set(map(tuple, pixels[(pixels != 255).any(1)].tolist()))


@pytest.mark.parametrize(("gates", "count", "shape"), [(1, 8, (28, 28, 1)), (5, 1, (100, 100, 3)), (9, 2, (40, 64, 3))])
def test_attention_maps_of_few_and_many_gates(tmp_path, gates, count, shape):
    random = np.random.default_rng(2)
    images, target = random.integers(0, 256, (count, *shape), dtype=np.uint8), random.integers(0, 3, count)
    maps = {f"stage {k}": (k + 1) * random.random((count, 12 // (k + 1), 12 // (k + 1))) for k in range(gates)}
    names = ["$5 and $6" * 9, "غابة", "山と海" * 20]
    figure = attention_maps(images, target, _logits(count, 3, 1), names, maps)
    assert len(figure.axes) == count * (1 + gates) + gates  # images, maps and colour bars
    image = _save(figure, tmp_path / "maps.png")
    assert image.width == round(style.WIDTH * style.DPI) and image.height < 1600
    assert tuple(np.asarray(image.convert("RGB"))[0, 0]) == (255, 255, 255)


def test_the_colours_of_a_gate_are_the_same_in_all_images_and_their_range_is_shown():
    images, logits, target = np.zeros((2, 8, 8, 3), np.uint8), np.eye(2), np.array([0, 0])
    maps = {"dim": np.array([0.1, 0.3])[:, None, None] + np.zeros((2, 2, 2)), "even": np.full((2, 4, 4), 0.9)}
    maps |= {"shut": np.zeros((2, 3, 3)), "broken": np.full((2, 3, 3), np.nan)}
    figure = attention_maps(images, target, logits, ["cat", "dog"], maps)
    spans = [tuple(ax.images[1].get_clim()) for ax in figure.axes if len(ax.images) == 2]
    expected = [(0.1, 0.3), (0.875, 0.925), (0, 0.05), (0, 1)]  # by gate, of two images each
    np.testing.assert_allclose(spans, np.repeat(expected, 2, axis=0))
    words = [text.get_text() for ax in figure.axes for text in (*ax.texts, *ax.get_xticklabels())]
    assert {"✓ cat", "✗ dog", "true: cat", "dim", "2×2", "0.10", "0.30"} <= set(words)


def test_right_and_wrong_do_not_depend_on_colour():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]])
    figure = prediction_grid(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]), logits, ["cat", "dog"], "x")
    words = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert "✓ cat 88 %" in words and "✗ cat 88 %" in words and "true: dog" in words


def test_a_model_has_one_colour_in_all_figures():
    curve = {"epoch": np.arange(1, 6)} | {
        name: np.linspace(0.2, 0.9, 5) for name in ("loss", "val_loss", "train_accuracy", "val_accuracy")
    }
    colour = style.STYLE["student"][0]
    curves = training_curves({"student": curve}, {"student": 3})
    assert {line.get_color() for ax in curves.axes for line in ax.lines} == {colour}
    bins = reliability(np.zeros(50, int), {"student": _logits(50, 3, 0)}, {"student": 0.1})
    assert colour in [line.get_color() for line in bins.axes[0].lines]
    star = [line for line in curves.axes[1].lines if line.get_marker() == "*"]
    assert [list(line.get_xdata()) for line in star] == [[3]]


def test_curves_survive_one_epoch_and_numbers_that_were_not_logged(tmp_path):
    one = {name: np.array([np.nan]) for name in ("loss", "val_loss", "train_accuracy", "val_accuracy")}
    figure = training_curves({"teacher": {"epoch": np.array([1])} | one}, {})
    _save(figure, tmp_path / "t.png")


def test_long_names_are_shortened_and_wide_characters_count_twice():
    assert style.shorten("mountain", 8) == "mountain"
    assert style.shorten("a mountain", 8) == "a mount…"
    assert style.shorten("山と海の写真", 8) == "山と海…"
    assert style.shorten("two\nlines", 20) == "two lines"


def test_a_name_without_glyphs_is_shown_by_its_number():
    assert style.names(["cat", "\U00012000"], 10) == ["cat", "#1"]  # cuneiform: none of the fonts has it
