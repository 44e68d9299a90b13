"""Figures of a sweep work with any number of values, holes, ties and long names, and stay readable."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from kd.report.figures import heatmap, pareto, sweep_curves
from kd.report.figures.confusion import confusion, confusion_difference, confusions, rows_to_percent
from kd.report.figures.style import DPI, STYLE, WIDTH, save

NAN = float("nan")


def _save(figure, path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph or a layout that does not fit is a warning
        save(figure, path)
    with Image.open(path) as image:
        image.load()
    assert image.width == round(WIDTH * DPI) and 150 < image.height < 2000
    return image


def _words(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def _heat(rows: int, columns: int, picked: tuple[int, int] = (), title: str = "") -> heatmap.Heat:
    values = np.arange(rows * columns, dtype=float).reshape(rows, columns)
    return heatmap.Heat(
        title, values, [[f"{v:.2f}\n+1.00 *" for v in row] for row in values], [picked] if picked else []
    )


@pytest.mark.parametrize(("rows", "columns", "slices"), [(1, 2, 1), (3, 4, 1), (2, 3, 5), (4, 9, 2), (20, 30, 1)])
def test_heat_maps_of_any_size(tmp_path, rows, columns, slices):
    heats = [_heat(rows, columns, (0, 1) if k == 0 else (), f"width = {k}") for k in range(slices)]
    made = heatmap.heat_maps(heats, list("abcdefghijklmnopqrstuvwxyzABCD")[:columns], ["r"] * rows, ("T", "α"), "title")
    _save(made, tmp_path / "heat.png")
    shown = _words(made)
    assert len(shown) == (rows * columns * slices if columns <= sweep_curves.NUMBERED_COLUMNS else 0)


def test_missing_cells_are_hatched_and_labelled_and_the_picked_one_is_outlined(tmp_path):
    values = np.array([[80.0, NAN], [NAN, 82.0]])
    heat = heatmap.Heat("", values, [["80.00", "failed"], ["", "82.00"]], [(1, 1)])
    made = heatmap.heat_maps([heat], ["1", "2"], ["0.1", "0.9"], ("T", "α"), "title")
    _save(made, tmp_path / "heat.png")
    assert sorted(_words(made)) == ["80.00", "82.00", "failed"]
    patches = made.axes[0].patches
    assert [patch.get_xy() for patch in patches if patch.get_hatch()] == [(1.02, 0.03), (0.02, 1.03)]
    assert [patch.get_xy() for patch in patches if not patch.get_fill()] == [(1.02, 1.03)]


@pytest.mark.parametrize("lower", [False, True])
def test_darker_is_better(lower):
    made = heatmap.heat_maps([_heat(1, 3)], list("abc"), ["r"], ("T", "α"), "title", lower=lower)
    light = made.axes[0].collections[0].to_rgba(np.array([0.0, 2.0]))[:, :3].sum(1)
    assert (light[0] < light[1]) == lower


def test_nothing_but_equal_values_or_holes_can_be_drawn(tmp_path):
    same = heatmap.Heat("", np.full((2, 2), 5.0), [["5"] * 2] * 2)
    holes = heatmap.Heat("", np.full((2, 2), NAN), [["waiting"] * 2] * 2)
    for heat in (same, holes):
        _save(heatmap.heat_maps([heat], list("ab"), list("cd"), ("T", "α"), "title"), tmp_path / "heat.png")


def test_text_has_contrast_on_every_shade():
    def light(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in np.random.default_rng(0).random((500, 3)):
        ink = {"black": 0.0, "white": 1.0}[heatmap.readable_ink(colour)]
        high, low = sorted((light(colour), ink), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5


def _line(x, mean, std=0.5) -> sweep_curves.Line:
    return sweep_curves.Line(np.array(x, float), np.array(mean, float), np.full(len(x), std))


def test_curves_with_their_references(tmp_path):
    lines = {f"α = {a}": _line([1, 2, 4, 8], [80 + a, 82, 83, 81]) for a in range(3)}
    baseline = {"": _line([1, 2, 4, 8], [79.0] * 4)}
    near = sweep_curves.curves({"": lines}, baseline, {"": (84.0, 84.0)}, ("T", "accuracy (%)"), "title")
    _save(near, tmp_path / "near.png")
    assert (
        near.axes[0].get_xscale() == "log" and len(near.axes[0].collections) == 4
    )  # bands of 3 lines and the baseline
    assert near.axes[0].get_ylim()[1] > 84
    far = sweep_curves.curves({"": lines}, baseline, {"": (99.0, 99.0)}, ("T", "accuracy (%)"), "title")
    _save(far, tmp_path / "far.png")
    assert far.axes[0].get_ylim()[1] < 90  # the curves are not flattened
    assert any("teacher 99" in words for words in _words(far))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_slices_of_curves_share_their_axis(tmp_path, count):
    slices = {f"width = {k}": {"student": _line([0, 0.5], [70 + 5 * k, 72], NAN)} for k in range(count)}
    made = sweep_curves.curves(slices, {}, {}, ("α", "accuracy (%)"), "title")
    _save(made, tmp_path / "slices.png")
    assert len({ax.get_ylim() for ax in made.axes[:count]}) == 1
    assert [ax.get_title() for ax in made.axes[:count]] == list(slices)


def test_a_search_is_a_scatter_and_names_are_dots(tmp_path):
    random = np.random.default_rng(0)
    x, y, accuracy = 2 ** random.uniform(0, 4, 30), random.random(30), random.uniform(80, 90, 30)
    _save(sweep_curves.scatter(x, y, accuracy, [4], ("T", "α"), "title"), tmp_path / "scatter.png")
    names = ["teacher = resnet18", "teacher = " + "very long " * 20]
    student, baseline = _line([0, 1], [88, 87]), _line([0, 1], [85, 85])
    made = sweep_curves.dots(names, student, baseline, np.array([90.0, NAN]), [0], "accuracy (%)", "title")
    _save(made, tmp_path / "dots.png")
    assert [label.get_text() for label in made.axes[0].get_yticklabels()][0] == "teacher = resnet18  (picked)"
    none = _line([0, 1], [NAN, NAN])
    _save(
        sweep_curves.dots(names, student, none, np.array([NAN, NAN]), [0], "accuracy (%)", "title"),
        tmp_path / "alone.png",
    )


def test_the_names_of_forty_methods_do_not_touch(tmp_path):
    names = [f"a_method_of_number_{k}" for k in range(40)]
    student, baseline = _line(range(40), np.linspace(90, 80, 40)), _line(range(40), [82.0] * 40)
    made = sweep_curves.dots(names, student, baseline, np.full(40, 94.0), [3], "accuracy (%)", "title")
    _save(made, tmp_path / "dots.png")
    boxes = [label.get_window_extent() for label in made.axes[0].get_yticklabels()]
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) == 40 and all(a.y1 < b.y0 for a, b in zip(boxes, boxes[1:], strict=False))
    assert min(box.x0 for box in boxes) >= 0


def _front(cost, accuracy, kinds, name, on) -> pareto.Front:
    cost, accuracy = np.array(cost, float), np.array(accuracy, float)
    return pareto.Front("MACs (millions)", cost, accuracy, np.full(len(cost), NAN), kinds, name, np.array(on, bool))


def test_fronts_are_drawn_on_log_axes_where_costs_are_far_apart(tmp_path):
    teacher, student, baseline = STYLE
    wide = _front(
        [400, 4, 4, 1], [95, 90, 85, 80], [teacher, student, baseline, student], ["", "A", "", "B"], [1, 1, 0, 1]
    )
    made = pareto.fronts([wide] * 3, ["A: T = 4", "B: T = 1"], "title")
    _save(made, tmp_path / "wide.png")
    assert all(ax.get_xscale() == "log" for ax in made.axes)
    step = next(line for line in made.axes[0].lines if len(line.get_xdata()) == 3)
    assert list(step.get_xdata()) == [1, 4, 400] and list(step.get_ydata()) == [80, 90, 95]
    assert _words(made) == ["A", "B"] * 3
    one = _front([4, 4], [85, 80], [student, baseline], ["A", ""], [True, False])
    made = pareto.fronts([one] * 3, ["A: T = 4"], "title")
    _save(made, tmp_path / "one.png")
    assert all(ax.get_xscale() == "linear" for ax in made.axes)


def test_a_difference_has_the_colours_that_it_has_in_a_runs_report():
    student, baseline, classes = np.array([[9, 1], [3, 7]]), np.array([[5, 5], [4, 6]]), ["cat", "dog"]
    shares = [rows_to_percent(counts) for counts in (student, baseline)]
    run = confusion_difference({"student − baseline": shares[0] - shares[1]}, classes)
    sweep = confusions(student, baseline, classes, "title")
    drawn = [figure.axes[-1].collections[0] for figure in (run, sweep)]
    assert drawn[0].get_array().tolist() == drawn[1].get_array().tolist()
    assert drawn[0].to_rgba([-40.0, 0.0, 40.0]).tolist() == drawn[1].to_rgba([-40.0, 0.0, 40.0]).tolist()
    more = drawn[1].to_rgba([40.0])[0]
    assert more[0] > more[2], "red, as the student is in every figure"
    own = [ax.collections[0].to_rgba([100.0])[0] for ax in sweep.axes[:2]]
    alone = [confusion(student, classes, label).axes[1].collections[0].to_rgba([100.0])[0] for label in STYLE]
    assert own[0].tolist() == alone[1].tolist() and own[1].tolist() == alone[2].tolist()


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_confusions_beside_each_other(tmp_path, classes):
    counts = np.random.default_rng(0).integers(0, 50, (classes, classes))
    counts[0] = 0  # a class without test images
    names = [f"$class$ number {k}" for k in range(classes)]
    made = confusions(counts, counts.T, names, "title")
    _save(made, tmp_path / "three.png")
    assert len(_words(made)) == (3 * classes**2 if classes <= sweep_curves.NUMBERED_COLUMNS else 0)
    _save(confusions(counts, None, names, "title"), tmp_path / "one.png")
