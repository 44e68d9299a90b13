"""The model card: its header parses, its tables hold odd names, and it claims what the files of the run know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import kd
from kd.evaluation.metrics import agreement, summary
from kd.export.card import write_card
from kd.export.card_header import header, slug
from kd.export.card_parts import introduction
from kd.export.usage import kd_lines, onnx_lines
from kd.inference.assemble import assemble
from kd.inference.description import Description
from kd.inference.model import Model
from kd.store.files import write_text

ODD = ("sea, open", 'the "street"', "a|b", "🌲 forest", "line\nbreak", "<b>*x*</b> [y](z)")
SPEC = {"network": {"_target_": "kd.models.tiny_cnn.TinyCNN", "width": 0.25, "depth": 3, "dropout": 0.0}}
EVIL = ("\x1b[2Ja\nrun", "my\u202edata\u2066")  # what a terminal obeys, and what changes the direction
TIMES = {"p50": 1.25, "p95": 2.0, "calm": True}
LATENCY = {"all_threads": {"batch_1": TIMES, "batch_64": TIMES}, "one_thread": {"batch_1": TIMES, "batch_64": TIMES}}
FILES = [
    {
        **{"file": "student.onnx", "format": "ONNX, float32", "runtime": "onnxruntime 1.32", "size_bytes": 31744},
        **{"accuracy": 0.8125, "agreement": 1.0, "nll": 0.6543, "largest_difference": 1e-6, "latency_ms": LATENCY},
        **{"ships": True, "reason": None},
    },
    {
        **{"file": "student.int8.onnx", "format": "ONNX, int8", "runtime": "onnxruntime 1.32", "size_bytes": 15872},
        **{"accuracy": 0.7, "agreement": 0.8, "nll": None, "largest_difference": None, "latency_ms": None},
        **{"ships": False, "reason": "it loses 11.25 points, more than --max-drop 1.0"},
    },
]
TORCH = {"accuracy": 0.8125, "nll": 0.6543, "size_bytes": 27000, "latency_ms": LATENCY}
REPORT = {
    "name": "a run",
    "key": "abc",
    "classes": 6,
    "test_images": 240,
    "own_images": True,
    "torch": TORCH,
    "folded": None,
    "files": FILES,
}


def make_model(classes=ODD, **fields) -> Model:
    torch.manual_seed(0)
    description = Description(SPEC, classes, 24, 24, name="a_run", key="abc", data="my scenes: 🌲", **fields)
    network = assemble(SPEC, classes, 24)
    network.normalize_by([0.4, 0.5, 0.3], [0.2, 0.3, 0.25])
    return Model(network, description)


def make_run(folder: Path, classes=ODD, count: int = 240, baseline: bool = True) -> dict:
    """Write ``result.json`` as a run does, of logits drawn from a seed."""
    random, k = np.random.default_rng(0), len(classes)
    target = random.integers(0, k, count)
    cost = {"params": 6342, "params_published": 6342, "macs": 811_200, "size_mb": 0.0267, "throughput": 800.0}
    cost |= {"latency_ms": {"batch_1": TIMES, "batch_64": TIMES}, "one_thread": None}
    training = {"epochs": 20, "best_epoch": 17, "best_val_accuracy": 0.8, "last_val_accuracy": 0.79, "seconds": 9.0}
    logits = {
        role: (random.normal(0, 1, (count, k)) + margin * np.eye(k)[target]).astype(np.float32)
        for role, margin in (("teacher", 3.0), ("student", 2.5), ("baseline", 2.0))
    }
    roles = {role: {**summary(x, target, classes), **cost, "training": training} for role, x in logits.items()}
    if not baseline:
        roles["baseline"] = None
    agree = agreement(logits["student"], logits["teacher"])
    ratios = dict.fromkeys(("size_ratio", "params_ratio", "macs_ratio"), 1.0)
    result = {
        **{"version": 1, "name": "a_run", "key": "abc", "seed": 3, **roles, "assistants": []},
        "choices": {
            "data": "folder",
            "teacher": "vea_resnet18",
            "attention": "vea",
            "student": "tiny_cnn",
            "kd": "dkd",
        },
        "settings": {
            **{"kd.temperature": 4.0, "kd.target": 1.0, "kd.terms.dkd._target_": "kd.methods.dkd.DKD"},
            **{"data.root": "/home/me/secret/pictures", "teacher.checkpoint": "/home/me/secret/teacher.pth"},
            **{"train.student.epochs": 20, "train.student.lr": 0.004, "teacher.pretrained": False},
        },
        "data": {
            **{"name": "my scenes: 🌲", "classes": list(classes), "image_size": 24, "train": 500, "val": 60},
            **{"test": count, "notes": {"left out": 2, "bad files": ["/home/me/secret/x.png"]}},
        },
        "machine": {"device_name": "a processor", "threads": 2, "precision": "bfloat16"},
        "comparison": {
            **{"accuracy_difference": 0.0, "speed_up": {"batch_1": 1.0, "batch_64": 1.0}, "params_reduction": 0.0},
            **{"agreement": agree, "baseline_agreement": 0.8, "accuracy_gain": 0.1, "gain_recovered": 0.5},
            **{"mcnemar_p": 0.01, **ratios},
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "result.json", json.dumps(result, ensure_ascii=False))
    return result


def rows_below(card: str, title: str) -> list[list[str]]:
    """The cells of the first table below a heading, as markdown splits them."""
    section = re.split(rf"^## {title}$", card, flags=re.MULTILINE)[1].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict, str]:
    folder = tmp_path_factory.mktemp("card")
    result = make_run(folder / "run")
    (folder / "deploy").mkdir()
    (folder / "deploy/student.onnx").touch()
    paths = write_card(folder / "deploy", make_model(), folder / "run", REPORT)
    assert [path.name for path in paths] == ["README.md", "config.json", "model.safetensors"]
    return folder / "deploy", result, (folder / "deploy/README.md").read_text("utf-8")


def test_the_header_is_one_that_the_hub_reads(made):
    deploy, result, _ = made
    card = ModelCard.load(deploy / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "unknown"
    assert data["library_name"] == "kd" and data["pipeline_tag"] == "image-classification"
    assert {"image-classification", "knowledge-distillation", "onnx", "dkd"} <= set(data["tags"])
    assert data["datasets"] == ["my-scenes"] and data["metrics"] == ["accuracy", "f1"]
    assert card.data.model_name == "a_run"
    first, second = card.data.eval_results
    assert (first.task_type, first.metric_type, first.dataset_split) == ("image-classification", "accuracy", "test")
    assert first.dataset_name == "my scenes: 🌲" and first.dataset_type == "my-scenes"
    assert first.metric_value == pytest.approx(result["student"]["accuracy"], abs=1e-6)
    assert second.metric_value == pytest.approx(result["student"]["macro_f1"], abs=1e-6)
    again = ModelCard(card.content)
    assert again.data.to_dict() == data


def test_every_table_keeps_its_columns_whatever_the_classes_are_called(made):
    _, result, text = made
    matrix = rows_below(text, "Confusion matrix")
    assert {len(row) for row in matrix} == {7} and len(matrix) == 2 + 6
    assert matrix[0][3] == "a\\|b" and matrix[0][5] == "line break"
    assert matrix[0][6] == "\\<b\\>\\*x\\*\\</b\\> \\[y\\](z)"
    assert [list(map(int, row[1:])) for row in matrix[2:]] == result["student"]["confusion"]
    for title in ("How it was distilled", "Results", "Files"):
        rows = rows_below(text, title)
        assert len({len(row) for row in rows}) == 1 and len(rows) > 3


def test_it_tells_method_teacher_scores_and_files(made):
    _, result, text = made
    settings = dict(rows_below(text, "How it was distilled"))
    assert settings["method"] == "dkd" and settings["kd.temperature"] == "4" and settings["teacher"] == "vea\\_resnet18"
    assert (
        settings["epoch kept"] == "17 of 20, picked by validation" and settings["teacher.checkpoint"] == "teacher.pth"
    )
    assert "it was distilled by `dkd` from a teacher, `vea_resnet18` with 6,342 parameters" in text
    assert "kd.terms.dkd.\\_target\\_" not in settings and "teacher.pretrained" not in settings
    scores = {row[0]: row[1:] for row in rows_below(text, "Results")}
    assert scores["accuracy (%)"][:3] == [
        f"{100 * result[r]['accuracy']:.2f}" for r in ("teacher", "student", "baseline")
    ]
    files = {row[0]: row for row in rows_below(text, "Files")}
    assert files["student.onnx"][3:] == ["31.0", "81.25", "100.00", "0.654", "1.25", "1.25", "yes"]
    assert files["student.int8.onnx"][3:9] == ["15.5", "70.00", "80.00", "–", "–", "–"]
    assert files["student.int8.onnx"][9].startswith("no: it loses 11.25 points")
    assert "(torch, folded)" not in files and "are those of all 240 test images. Sizes are" in text


def test_its_lines_are_those_that_are_tested_and_kds_run(made, monkeypatch, capsys):
    deploy, _, text = made
    assert f"```python\n{onnx_lines(make_model().description)}\n```" in text
    monkeypatch.chdir(deploy.parent)
    Image.new("RGB", (40, 30), "green").save("image.jpg")
    exec(kd_lines(), {})
    model = make_model()
    assert capsys.readouterr().out == f"{model.classes[model(model.preprocess('image.jpg')).argmax()]}\n"


def test_its_limits_are_measured_ones(made):
    _, result, text = made
    limits = text.partition("## Limits")[2]
    worst = min(result["student"]["per_class"].items(), key=lambda item: item[1]["recall"])
    assert f"{100 * worst[1]['recall']:.2f} %" in limits
    assert f"calibration error is {100 * result['student']['ece']:.2f} %" in limits
    assert "one seed (3)" in limits and "240 images" in limits and "left out: 2" in limits
    assert "`student.int8.onnx`: no: it loses" in limits


def test_no_path_of_this_machine_is_in_it(made):
    deploy, _, _ = made
    for path in deploy.iterdir():
        assert b"/home/me" not in path.read_bytes() and str(deploy.parent).encode() not in path.read_bytes(), path.name


def test_kd_loads_the_folder(made):
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(kd.load(made[0])(images), make_model()(images))


@pytest.mark.parametrize(
    ("licence", "entries"),
    [
        (None, {"license": "unknown"}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("My Licence: v1", {"license": "other", "license_name": "my-licence-v1"}),
    ],
)
def test_the_licence_is_what_the_user_says(licence, entries, tmp_path):
    write_card(tmp_path, make_model(), None, {}, licence)
    data = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert {name: value for name, value in data.items() if name.startswith("license")} == entries
    text = (tmp_path / "README.md").read_text("utf-8").partition("## Licence")[2]
    assert (licence or "stated no licence") in text


def test_a_student_whose_file_came_alone_claims_nothing(tmp_path):
    write_card(tmp_path, make_model(), None, {})
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "are not known here" in text and "## Results" not in text and "## Confusion" not in text
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.eval_results is None and "onnxruntime" not in text
    assert "kd.load" in text


def test_what_a_terminal_would_obey_is_shown_and_not_obeyed(tmp_path):
    evil = ("\x1b[31mred", "evil\u202egnp", "fine 🌲", "zero\u200bwidth", "bell\x07", "one\ntwo")
    result = make_run(tmp_path / "run", evil)
    result["name"], result["choices"]["kd"], result["data"]["name"] = EVIL[0], f"dkd`{EVIL[1]}", EVIL[1]
    (tmp_path / "run/result.json").write_text(json.dumps(result), encoding="utf-8")
    model = make_model(evil)
    model.description = replace(model.description, name=EVIL[0], data=EVIL[1])
    for run in (tmp_path / "run", None):
        write_card(tmp_path, model, run, REPORT)
        text = (tmp_path / "README.md").read_text("utf-8")
        assert all(each.isprintable() or each == "\n" for each in text)
        assert "**evil\\\\u202egnp**" in text and "fine 🌲" in text
        assert "# \\\\x1b\\[2Ja run" in text.splitlines()


FOREIGN = {**REPORT, "own_images": False, "test_images": 546, "tested_on": "the folder my_pictures"}
FOREIGN_FILES = "those of 546 images of the folder my\\_pictures, which are not the test images of the run."


def test_scores_on_other_images_are_no_benchmark_of_the_data_set(tmp_path):
    write_card(tmp_path, make_model(), None, FOREIGN)
    text = (tmp_path / "README.md").read_text("utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.eval_results is None and "model-index" not in text and data.metrics == ["accuracy"]
    assert FOREIGN_FILES in text
    limits = text.partition("## Limits")[2]
    assert "of its own data set is not known here; the accuracy above is that on other images." in limits


def test_a_run_s_own_scores_stay_where_its_files_were_tested_on_other_images(tmp_path):
    result = make_run(tmp_path / "run")
    write_card(tmp_path, make_model(), tmp_path / "run", FOREIGN)
    text = (tmp_path / "README.md").read_text("utf-8")
    first = ModelCard.load(tmp_path / "README.md").data.eval_results[0]
    assert first.metric_value == pytest.approx(result["student"]["accuracy"], abs=1e-6)
    assert FOREIGN_FILES in text and "those of all" not in text


def test_without_test_images_the_files_are_said_to_be_compared_on_random_ones(tmp_path):
    write_card(tmp_path, make_model(), None, {**REPORT, "own_images": None, "test_images": None})
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "agreement with torch is that on random images. Sizes are" in text


def test_entries_that_a_report_lacks_are_left_out(tmp_path):
    make_run(tmp_path / "run", baseline=False)
    bare = {"files": [{"file": "student.mlpackage", "ships": None, "reason": "predicts on macOS alone"}], "torch": None}
    write_card(tmp_path, make_model(), tmp_path / "run", bare)
    text = (tmp_path / "README.md").read_text("utf-8")
    row = rows_below(text, "Files")[2]
    assert row[:4] == ["student.mlpackage", "–", "–", "–"] and row[-1] == "not tested: predicts on macOS alone"


@pytest.mark.parametrize("count", [1, 2, 40, 1000])
def test_any_number_of_classes(count, tmp_path):
    classes = tuple(f"class {number} | {number % 7}" for number in range(count))
    make_run(tmp_path / "run", classes, count=2000)
    write_card(tmp_path, make_model(classes), tmp_path / "run", REPORT)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert ModelCard.load(tmp_path / "README.md").data.eval_results[0].metric_type == "accuracy"
    assert len(text) < 20_000 and f"{count:,} class" in text or count == 1
    if count == 1:
        assert "one class" in text and "## Confusion" not in text
    elif count > 12:
        assert "is not printed" in text and len(rows_below(text, "Confusion matrix")) == 2 + 10


def test_the_figure_of_the_report_comes_along_where_a_table_is_too_wide(tmp_path):
    classes = tuple(f"class {number}" for number in range(40))
    make_run(tmp_path / "run", classes)
    (tmp_path / "run/figures").mkdir()
    (tmp_path / "run/figures/confusion_student.png").write_bytes(b"a figure")
    paths = write_card(tmp_path, make_model(classes), tmp_path / "run", REPORT)
    assert paths[-1].read_bytes() == b"a figure"
    assert "(confusion.png)" in (tmp_path / "README.md").read_text("utf-8")
    write_card(tmp_path, make_model(), None, {})  # a later export into the folder
    assert not (tmp_path / "confusion.png").exists()


def test_a_run_without_a_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="result.json is missing"):
        write_card(tmp_path, make_model(), tmp_path, {})


@pytest.mark.parametrize(
    "name", ["a", "Intel 100: \"x\", 'y'", "- dash: #1", "[1, 2]", "yes", "💡", "%tag", "null", "1e3", *EVIL]
)
def test_any_name_survives_the_header(name):
    description = replace(make_model().description, name=name, data=name)
    found = yaml.safe_load(header(description, layout="kd", licence=None, scores={"accuracy": 0.5}).split("---\n")[1])
    (entry,) = found["model-index"]
    assert entry["name"] == name and entry["results"][0]["dataset"]["name"] == name
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", found["datasets"][0])


@pytest.mark.parametrize("name", ["folder", "huggingface", "webdataset"])
def test_a_data_set_without_a_name_is_not_named(name, tmp_path):
    description = replace(make_model().description, data=name)
    text = header(description, layout="kd", licence=None, scores={"accuracy": 0.5})
    found = yaml.safe_load(text.split("---\n")[1])
    assert "datasets" not in found and found["model-index"][0]["results"][0]["dataset"]["name"] == name
    result = make_run(tmp_path)
    result["data"]["name"] = name
    assert "on a data set without a name it was distilled" in introduction(make_model(), result)[1]
    result["choices"]["kd"] = "supervised"
    result["settings"]["kd.terms.dkd._target_"] = "kd.methods.supervised.CrossEntropy"
    assert introduction(make_model(), result)[1] == (
        "It was trained by `supervised` on a data set without a name, without a teacher."
    )


def test_a_data_set_of_the_hub_has_its_name_there():
    description = replace(make_model().description, data="huggingface")
    found = yaml.safe_load(header(description, layout="kd", licence=None, dataset="zh-plus/tiny").split("---\n")[1])
    assert found["datasets"] == ["zh-plus/tiny"]


def test_a_slug_is_an_identifier_of_the_hub():
    assert slug("Intel 100: scenes!") == "intel-100-scenes"
    assert slug("🌲") == "unnamed"
    assert slug("a--b..c") == "a-b.c"
