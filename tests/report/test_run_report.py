"""The report of a run is made from its files alone, agrees with result.json, and names a missing file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.records import run_folder
from kd.report import __main__
from kd.report import text as report_text
from kd.report.run import report, sampling, tables
from kd.report.run.page import page
from tests.conftest import TINY, compose

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["forest", "sea_side", "ice | snow", "never tested"]
COUNT = 120
FIGURES = {
    *("overview", "diagnosis", "training", "per_class_f1", "reliability", "disagreement", "confusion_difference"),
    *("attention", "not_won"),
    *(f"{kind}_{model}" for kind in ("confusion", "predictions") for model in ("teacher", "student", "baseline")),
}


def _model(target: np.ndarray, logits: np.ndarray, params: int, milliseconds: float) -> dict:
    predicted, k = logits.argmax(1), len(CLASSES)
    confusion = np.bincount(target * k + predicted, minlength=k * k).reshape(k, k)
    support = confusion.sum(1)
    score = {"precision": 0.5, "recall": 0.6123, "specificity": 0.7, "f1": 0.8, "mcc": 0.4567}
    times = {"batch_64": 40 * milliseconds, "batch_1": milliseconds}  # any order
    latency = {batch: {"p50": p50, "p95": 1.5 * p50, "calm": True} for batch, p50 in times.items()}
    one_thread = {batch: {**each, "p50": 2 * each["p50"]} for batch, each in latency.items()}
    return {
        "accuracy": float((predicted == target).mean()),
        **{"macro_f1": 0.7312, "nll": 0.61, "ece": 0.0456, "params": params, "params_published": params},
        **{"macs": 40 * params, "size_mb": params * 4 / 2**20, "throughput": 1e3 / milliseconds},
        "latency_ms": latency,
        "one_thread": {"latency_ms": one_thread, "throughput": 0.5e3 / milliseconds},
        "per_class": {name: {**score, "support": int(n)} for name, n in zip(CLASSES, support, strict=True)},
        "confusion": confusion.tolist(),
        "training": {
            **{"epochs": 3, "best_epoch": 2, "best_val_accuracy": 0.8123, "last_val_accuracy": 0.7987},
            **{"seconds": 90.0, "found": False},
        },
    }


def make_run(folder: Path, baseline: bool = True, gates: bool = True) -> dict:
    """Write the files of a run, with logits drawn from a seed, and return its result."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    target = random.integers(0, 3, COUNT)
    logits = {
        name: (random.normal(0, 1, (COUNT, 4)) + margin * np.eye(4)[target]).astype(np.float32)
        for name, margin in (("teacher", 3.5), ("student", 2.5), ("baseline", 2.0))
        if baseline or name != "baseline"
    }
    result = {
        **{"version": 1, "name": "tiny_run", "key": "0123456789", "seed": 3},
        "choices": {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": "hinton"},
        "settings": {"kd.temperature": 4.0, "kd.alpha": 0.9, "train.epochs": 3},
        "data": {
            **{"name": "scenes", "classes": CLASSES, "image_size": 12, "train": 300, "val": 50, "test": COUNT},
            "notes": {"left out": 2},
        },
        "machine": {
            **{"device": "cpu", "device_name": "a processor", "threads": 2, "torch": "2.15.0", "python": "3.11.7"},
            "precision": "float32",
        },
        "teacher": _model(target, logits["teacher"], 12_310_000, 14.23) | {"params_published": 23_830_000},
        "student": _model(target, logits["student"], 289_126, 1.312),
        "baseline": _model(target, logits["baseline"], 289_126, 1.3) if baseline else None,
        "seconds": {"data": 3.0, "teacher": 90.0, "student": 60.0, "total": 153.0},
    }
    teacher, student, baseline = result["teacher"], result["student"], result["baseline"]
    agree = {name: float((v.argmax(1) == logits["teacher"].argmax(1)).mean()) for name, v in logits.items()}
    gain = student["accuracy"] - baseline["accuracy"] if baseline else None
    result["comparison"] = {
        "accuracy_difference": student["accuracy"] - teacher["accuracy"],
        "speed_up": {"batch_1": 14.23 / 1.312, "batch_64": 14.23 / 1.312},
        **dict.fromkeys(("size_ratio", "params_ratio", "macs_ratio"), 12_310_000 / 289_126),
        "params_reduction": 1 - 289_126 / 12_310_000,
        "agreement": agree["student"],
        "baseline_agreement": agree.get("baseline"),
        "accuracy_gain": gain,
        "gain_recovered": gain / (teacher["accuracy"] - baseline["accuracy"]) if baseline else None,
        "mcnemar_p": 0.0123 if baseline else None,
    }
    rows = sampling.choose_images(target, logits, result["seed"], gates)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "config.yaml").write_text("seed: 3\n", encoding="utf-8")
    np.savez(folder / "predictions.npz", index=np.arange(COUNT), target=target, **logits)
    images = random.integers(0, 256, (len(rows), 12, 12, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", row=rows, image=images)
    if gates:
        attended = sampling.choose_attended(target, logits["teacher"], result["seed"])
        maps = {f"stage {k}": random.random((len(attended), n, n), np.float32) for k, n in ((0, 12), (2, 3))}
        np.savez(folder / "attention.npz", row=attended, **maps)
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as lines:
        for stage in logits:
            for epoch in (1, 2, 3):
                numbers = {"loss": 2.0 / epoch, "val_loss": 1.0 / epoch, "train_accuracy": 0.8, "val_accuracy": 0.7}
                lines.write(json.dumps({"stage": stage, "epoch": epoch, **numbers}) + "\n")
    return result


def _command(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kd.report", *map(str, arguments)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict]:
    """A run whose report was made once, in this process. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = make_run(folder)
    report.write_report(folder)
    return folder, result


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the run's files without its report, for tests that damage them."""
    return Path(shutil.copytree(run[0], tmp_path / "copy", ignore=shutil.ignore_patterns("figures", "report.md")))


def test_command_makes_the_same_report_again_and_prints_the_table(run, copy):
    done = _command(copy)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert tables.terminal_table(run[1]) in done.stdout
    assert str(copy / "report.md") in done.stdout
    assert (copy / "report.md").read_text("utf-8") == (run[0] / "report.md").read_text("utf-8")


def test_every_figure_is_there_and_shown_with_alt_text(run):
    folder, _ = run
    assert {path.stem for path in (folder / "figures").iterdir()} == FIGURES
    shown = re.findall(r"!\[([^\n]+)\]\((\S+)\)", (folder / "report.md").read_text("utf-8"))
    assert {path for _, path in shown} == {f"figures/{name}.png" for name in FIGURES}
    assert all(len(words) > 20 for words, _ in shown)
    for name in FIGURES:
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert image.format == "PNG" and image.width > 850 and image.height > 200
            assert len(set(image.convert("L").tobytes())) > 10


def test_a_figure_without_a_place_on_the_page_is_an_error_before_it_is_saved(copy, monkeypatch):
    monkeypatch.setattr(report, "page", lambda result, made, *rest: page(result, {**made, "roc": "forgotten"}, *rest))
    with pytest.raises(ValueError, match="no place on the page shows the figure roc"):
        report.write_report(copy)
    assert not (copy / "figures").exists() and not (copy / "report.md").exists()


def test_the_table_agrees_with_the_result(run):
    _, result = run
    rows = {row["metric"]: row for row in tables.comparison_rows(result)}
    for key, label in run_folder.ROLE_LABELS.items():
        model = result[key]
        assert float(rows["accuracy (%)"][label]) == pytest.approx(100 * model["accuracy"], abs=0.005)
        assert float(rows["macro F1 (%)"][label]) == pytest.approx(100 * model["macro_f1"], abs=0.005)
        assert float(rows["model size (MB)"][label]) == pytest.approx(model["size_mb"], rel=0.005)
        assert float(rows["latency batch 1, p50 (ms)"][label]) == pytest.approx(
            model["latency_ms"]["batch_1"]["p50"], rel=0.005
        )
        assert float(rows["latency batch 64, p95 (ms)"][label]) == pytest.approx(
            model["latency_ms"]["batch_64"]["p95"], rel=0.005
        )
    assert rows["parameters (M)"]["teacher"] == "12.31 M live; 23.83 M as published"
    assert rows["parameters (M)"]["student"] == "0.289"
    assert rows["parameters (M)"]["student vs teacher"] == "↓ 42.6× fewer"
    assert rows["speed-up batch 1"]["student"] == "10.8×"
    assert rows["parameter reduction (%)"]["student"] == "97.65"
    agreement = result["comparison"]["agreement"]
    assert float(rows["agreement with the teacher (%)"]["student"]) == pytest.approx(100 * agreement, abs=0.005)
    recovered = result["comparison"]["gain_recovered"]
    assert float(rows["gain recovered (%)"]["student"]) == pytest.approx(100 * recovered, abs=0.005)


def test_page_and_terminal_show_the_same_rows(run):
    folder, result = run
    page, terminal = (folder / "report.md").read_text("utf-8"), tables.terminal_table(result)
    assert max(map(len, terminal.splitlines())) <= 100
    for row in tables.comparison_rows(result):
        assert "| " + " | ".join(row.values()) + " |" in page
        assert all(part in terminal for cell in row.values() for part in cell.split("; "))


def test_scores_of_classes(run):
    folder, result = run
    rows = tables.per_class_rows(result)
    assert len(rows) == 3 * len(CLASSES)
    assert rows[0] == {
        **{"class": "forest", "model": "teacher", "precision (%)": 50.0, "recall (%)": pytest.approx(61.23)},
        **{"specificity (%)": pytest.approx(70), "F1 (%)": 80.0, "MCC": 0.4567},
        "support": result["teacher"]["per_class"]["forest"]["support"],
    }
    untested = [row for row in rows if row["class"] == "never tested"]
    assert all(row["recall (%)"] is row["F1 (%)"] is row["MCC"] is None for row in untested)
    assert "| ice \\| snow | student |" in (folder / "report.md").read_text("utf-8")


def test_the_verdict_separates_a_gain_from_noise():
    result = {"teacher": {"accuracy": 0.9}, "baseline": {"accuracy": 0.8}, "data": {"test": 1000}}
    clear = tables.verdict(result | {"comparison": {"accuracy_gain": 0.03, "mcnemar_p": 0.004}})
    assert "gained 3.00 points" in clear and "p = 0.004" in clear and "noise" not in clear
    unclear = tables.verdict(result | {"comparison": {"accuracy_gain": 0.01, "mcnemar_p": 0.3}})
    assert "gained 1.00 points" in unclear and "not distinguishable from noise" in unclear
    assert "lost 1.00 points" in tables.verdict(result | {"comparison": {"accuracy_gain": -0.01, "mcnemar_p": 0.3}})
    assert "no better" not in clear
    weak = result | {"teacher": {"accuracy": 0.8}, "comparison": {"accuracy_gain": 0.01, "mcnemar_p": 0.3}}
    assert tables.verdict(weak).endswith("The teacher (80.00 %) is no better than the baseline.")
    assert report_text.standard_error(0.9, 3000) == pytest.approx(0.0055, abs=1e-4)


def test_latencies_of_a_busy_machine_are_marked(run, tmp_path):
    folder, result = run
    assert tables.latency_warning(result) == "" and "Other processes used" not in (folder / "report.md").read_text(
        "utf-8"
    )
    rows = {row["metric"]: row for row in tables.comparison_rows(result)}
    assert rows["batch 1 on one thread (ms)"]["student vs teacher"].startswith("↓")
    disturbed = {
        "latency_ms": {**result["student"]["latency_ms"], "batch_1": {"p50": 180.0, "p95": 185.0, "calm": False}}
    }
    shutil.copytree(folder, tmp_path / "busy")
    busy = result | {"student": result["student"] | disturbed}
    (tmp_path / "busy" / "result.json").write_text(json.dumps(busy), "utf-8")
    rows = {row["metric"]: row for row in tables.comparison_rows(busy)}
    marked = [(metric, label) for metric, row in rows.items() for label in row if row[label].endswith(tables.BUSY_MARK)]
    assert marked == [
        ("latency batch 1, p50 (ms)", "student"),
        ("latency batch 1, p50 (ms)", "student vs teacher"),
        ("latency batch 1, p95 (ms)", "student"),
        ("latency batch 1, p95 (ms)", "student vs teacher"),
        ("speed-up batch 1", "student"),
    ]
    report.write_report(tmp_path / "busy")
    page = (tmp_path / "busy" / "report.md").read_text("utf-8")
    assert "Other processes used the machine during this measurement (student)" in page and "| 180\\* |" in page
    assert "Other processes used the machine" in " ".join(tables.terminal_table(busy).split())
    before = {k: v for k, v in result["teacher"].items() if k != "one_thread"}
    before["latency_ms"] = {"batch_1": {"p50": 1.0, "p95": 1.1}}
    assert not run_folder.is_calm(before), "a result of a version that did not check"


def test_without_a_baseline_or_attention_maps_their_columns_rows_and_figures_are_left_out(tmp_path):
    result = make_run(tmp_path / "run", baseline=False, gates=False)
    paths = report.write_report(tmp_path / "run")
    assert set(paths) - {"report"} == FIGURES - {"confusion_baseline", "predictions_baseline", "attention", "not_won"}
    assert all(path.is_file() for path in paths.values())
    assert set(tables.comparison_rows(result)[0]) == {"metric", "teacher", "student", "student vs teacher", "better"}
    page = paths["report"].read_text("utf-8")
    assert (
        "baseline" not in page.split("## Teacher and student")[1].split("\n## ")[0]
        and "gain recovered" not in page
        and "teacher looks" not in page
    )
    assert "cannot say what distillation gained" in page


def test_images_are_chosen_by_the_seed_and_hold_disagreements(run):
    with np.load(run[0] / "predictions.npz") as arrays:
        target, logits = arrays["target"], {name: arrays[name] for name in ("teacher", "student")}
    rows = sampling.choose_images(target, logits, 3)
    np.testing.assert_array_equal(rows, sampling.choose_images(target, logits, 3))
    assert not np.array_equal(rows, sampling.choose_images(target, logits, 4))
    assert len(set(rows.tolist())) == len(rows) and rows.min() >= 0 and rows.max() < COUNT
    differ = logits["teacher"][rows].argmax(1) != logits["student"][rows].argmax(1)
    assert differ.sum() >= sampling.DISAGREEMENTS
    same = sampling.choose_images(target, {"teacher": logits["teacher"], "student": logits["teacher"]}, 3)
    assert len(same) == sampling.SAMPLE


def test_images_that_the_student_did_not_win_are_chosen_and_drawn(run):
    with np.load(run[0] / "predictions.npz") as arrays:
        target, logits = arrays["target"], {name: arrays[name] for name in ("teacher", "student", "baseline")}
    rows = sampling.choose_not_won(target, logits, 3)
    right = {role: each[rows].argmax(1) == target[rows] for role, each in logits.items()}
    assert 0 < len(rows) <= sampling.NOT_WON and right["teacher"].all()
    assert not right["student"].any() and not right["baseline"].any()
    assert {*rows} <= {*sampling.choose_images(target, logits, 3)}
    text = (run[0] / "report.md").read_text("utf-8")
    part = text.split("## Does the teacher teach?")[1].split("\n## ")[0]
    assert (
        f"![{len(rows)} test image{'s' * (len(rows) > 1)} that the teacher has right" in part
        and "](figures/not_won.png)" in part
    )


def test_right_and_wrong_images_get_attention_maps_by_the_seed(run):
    with np.load(run[0] / "predictions.npz") as arrays:
        target, logits = arrays["target"], {name: arrays[name] for name in ("teacher", "student")}
    rows = sampling.choose_attended(target, logits["teacher"], 3)
    np.testing.assert_array_equal(rows, sampling.choose_attended(target, logits["teacher"], 3))
    assert not np.array_equal(rows, sampling.choose_attended(target, logits["teacher"], 4))
    right = logits["teacher"].argmax(1) == target
    assert right[rows].tolist() == [True] * 4 + [False] * 4 and len(set(rows.tolist())) == 8
    assert len(sampling.choose_attended(target, 9 * np.eye(4)[target], 3)) == 4  # never wrong
    others = sampling.choose_images(target, logits, 3)
    np.testing.assert_array_equal(sampling.choose_images(target, logits, 3, attended=True), np.union1d(others, rows))


@pytest.mark.parametrize("name", sorted(run_folder.FILES))
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(run_folder.ReportError, match=re.escape(f"{copy / name} is missing. It holds ")):
        report.write_report(copy)


@pytest.mark.parametrize("name", ["attention.npz", "metrics.jsonl", "images.npz", "predictions.npz", "result.json"])
def test_a_damaged_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2 - 7])
    with pytest.raises(run_folder.ReportError, match=re.escape(f"{copy / name} cannot be read")):
        report.write_report(copy)


def test_predictions_of_another_run_are_refused(copy):
    with np.load(copy / "predictions.npz") as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    np.savez(copy / "predictions.npz", **changed | {"student": -changed["student"]})
    with pytest.raises(run_folder.ReportError, match="belong to different runs"):
        report.write_report(copy)
    np.savez(copy / "predictions.npz", **changed | {"student": changed["student"][:5]})
    with pytest.raises(run_folder.ReportError, match=r"\[120, 4\] would be right"):
        report.write_report(copy)


def test_attention_maps_of_another_run_are_refused(copy):
    with np.load(copy / "attention.npz") as arrays:
        maps = {name: arrays[name] for name in arrays.files}
    for wrong, message in (
        ({"row": maps["row"] + COUNT}, "belong to different runs"),
        ({"stage 2": maps["stage 2"][0]}, r'"stage 2" has shape \[3, 3\]; \[8, h, w\] would be right'),
    ):
        np.savez(copy / "attention.npz", **maps | wrong)
        with pytest.raises(run_folder.ReportError, match=f"{re.escape(str(copy / 'attention.npz'))}.*{message}"):
            report.write_report(copy)


SMALL = ("train.teacher.epochs=1", "train.student.epochs=1", "train.precision=float32", "latency.seconds=0.02")


def _prepared(outputs: Path, attention: str):
    from kd.pipeline.prepare import prepare

    named = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "hinton"}
    common = [f"outputs={outputs}", "tracking=disabled", "report=false", "baseline=false"]
    networks = ["teacher=tiny_cnn", "teacher.width=0.5", f"attention={attention}"]
    return prepare(compose(*TINY, *SMALL, *common, *networks), named)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def test_a_run_shows_where_its_teacher_looks(outputs):
    import torch

    from kd.attention.maps import gate_maps
    from kd.models.ensemble import Ensemble
    from kd.pipeline.execute import execute
    from kd.pipeline.results import write_attention

    plan = _prepared(outputs, "vea")
    folder, network = execute(plan).folder, plan.stages["teacher"].network.eval()
    maps, predictions, images = (
        dict(np.load(folder / f"{name}.npz")) for name in ("attention", "predictions", "images")
    )
    rows, target, logits = maps.pop("row"), predictions["target"], predictions["teacher"]
    assert (logits.argmax(1) == target)[rows].tolist() == [True] * 4 + [False] * 4
    images = images["image"][np.searchsorted(images["row"], rows)]
    np.testing.assert_array_equal(images, plan.dataset.images[predictions["index"][rows]])
    image = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        np.testing.assert_allclose(network(image), logits[rows], atol=1e-5)
    expected = gate_maps(network, image)
    assert list(maps) == list(expected) == ["stage 0", "stage 1", "stage 2"]
    for name, gate in expected.items():
        np.testing.assert_allclose(maps[name], gate, atol=1e-6)

    page = report.write_report(folder)["report"].read_text("utf-8")
    assert (folder / "figures" / "attention.png").is_file() and "](figures/attention.png)" in page
    assert not write_attention(folder, Ensemble([network, network]), plan.dataset, rows, plan.device)
    assert not (folder / "attention.npz").exists()


def test_a_run_of_a_plain_teacher_has_no_attention_maps(outputs):
    from kd.pipeline.execute import execute

    folder = execute(_prepared(outputs, "none")).folder
    assert (folder / "images.npz").is_file() and not (folder / "attention.npz").exists()
    predictions = np.load(folder / "predictions.npz")
    rows = sampling.choose_images(predictions["target"], predictions, 0)
    np.testing.assert_array_equal(np.load(folder / "images.npz")["row"], rows)


def test_a_missing_entry_is_named(copy):
    result = json.loads((copy / "result.json").read_text("utf-8"))
    del result["comparison"]["agreement"]
    (copy / "result.json").write_text(json.dumps(result), "utf-8")
    with pytest.raises(run_folder.ReportError, match="'agreement' is missing"):
        report.write_report(copy)


def test_the_command_ends_with_2_and_a_message(tmp_path, capsys):
    assert __main__.main([str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "nowhere is not a folder" in printed.err and "Traceback" not in printed.err


def test_the_table_needs_neither_seaborn_nor_torch():
    code = "import sys, kd.report; print(sorted({'seaborn', 'matplotlib', 'torch', 'wandb', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04123, "0.0412"), (4.126, "4.13"), (41.26, "41.3"), (9.999, "10.00"), (412.6, "413"), (41260, "41,300")],
)
def test_three_significant_digits(value, text):
    assert report_text.significant(value) == text
    assert report_text.significant(None) == report_text.significant(float("nan")) == "–"


def test_several_seeds_have_a_mean_and_a_deviation(run):
    _, result = run

    def seed(number, student, baseline):
        models = {
            "student": result["student"] | {"accuracy": student},
            "baseline": result["baseline"] | {"accuracy": baseline},
        }
        return result | models | {"settings": {"seed": number, "kd.alpha": 0.7}}

    rows = tables.seeds_rows([seed(0, 0.80, 0.75), seed(1, 0.82, 0.79), seed(2, 0.84, 0.80)])
    accuracy = {row["metric"]: row for row in rows}["accuracy (%)"]
    assert accuracy["student"] == "82.00 ± 2.00 (3)"
    assert accuracy["student − baseline"] == "4.00 ± 1.00 (3)"
    with pytest.raises(ValueError, match="differ in more than their seed"):
        tables.seeds_rows([seed(0, 0.8, 0.7), result | {"settings": {"seed": 1, "kd.alpha": 0.1}}])


def test_more_classes_and_unequal_ones_have_their_rows(run):
    def with_scores(result: dict, **scores) -> dict:
        return result | {key: result[key] | scores for key in run_folder.ROLE_LABELS}

    def metrics(result: dict) -> list[str]:
        return [row["metric"] for row in tables.comparison_rows(result)]

    both = {"top-5 accuracy (%)", "balanced accuracy (%)"}
    assert not both & set(metrics(run[1])), "an older result has neither"
    found = with_scores(run[1], top5_accuracy=0.987, balanced_accuracy=0.5)
    assert metrics(found)[:4] == ["accuracy (%)", "top-5 accuracy (%)", "balanced accuracy (%)", "macro F1 (%)"]
    assert tables.comparison_rows(found)[1]["student"] == "98.70"
    alike = with_scores(run[1], top5_accuracy=None, balanced_accuracy=0.5, confusion=[[40, 1], [3, 39]])
    assert not both & set(metrics(alike)), "with classes of one size it is close to the accuracy"


def test_the_measure_that_picked_is_named(run):
    _, result = run
    training = {"picked_by": "macro_f1", "best_val_macro_f1": 0.4321, "last_val_macro_f1": 0.1234}
    found = result | {k: result[k] | {"training": result[k]["training"] | training} for k in ("student", "baseline")}
    text, before = (page(each, {}, []) for each in (found, result))
    assert "the epoch with the best validation macro F1 is" in text and "| 43.21 | 12.34 |" in text
    assert "the epoch with the best validation accuracy is" in before and "validation macro F1" not in before


def test_results_that_lack_a_later_setting_pool_with_those_that_have_its_default(run):
    later = run[1] | {"settings": run[1]["settings"] | {"data.balance": "none", "train.pick_by": "accuracy"}}
    assert tables.seeds_rows([run[1], later])[0]["metric"] == "accuracy (%)"
    with pytest.raises(ValueError, match="differ in more than their seed"):
        tables.seeds_rows([run[1], run[1] | {"settings": run[1]["settings"] | {"data.balance": "sample"}}])
