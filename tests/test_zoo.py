"""The list of what there is: every page is in it, with what it says itself, in all three forms."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kd import zoo
from kd.interfaces import LOGITS_ONLY
from kd.objective import Objective
from kd.options import settled
from tests.conftest import CONF, compose, options

METHODS = options("kd")


def said(capsys, *arguments: str) -> str:
    assert zoo.main([*arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    """A copy of conf/ that KD_CONF_DIR names, with two methods in it."""
    folder = tmp_path / "conf"
    (folder / "kd").mkdir(parents=True)
    shutil.copy(CONF / "config.yaml", folder)
    for name in ("supervised", "hinton"):
        shutil.copy(CONF / "kd" / f"{name}.yaml", folder / "kd")
    monkeypatch.setenv("KD_CONF_DIR", str(folder))
    return folder / "kd"


@pytest.fixture(scope="module")
def entries() -> dict[str, zoo.Entry]:
    found, wrong = zoo.entries(zoo.GROUPS["methods"], CONF)
    assert not wrong
    return {entry.name: entry for entry in found}


@cache
def chosen(method: str):
    return compose(f"kd={method}").kd


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_listed_with_the_settings_that_hydra_sees(entries, method):
    entry = entries[method]
    config = OmegaConf.to_container(chosen(method), resolve=False)
    hydra = {key: value for key, value in config.items() if key not in zoo.NO_SETTINGS}
    assert entry.settings == {key: hydra[key] for key in entry.settings}
    assert isinstance(config["terms"], list) or set(entry.settings) == set(hydra)
    assert entry.paper and entry.family in zoo.FAMILIES


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_reads_is_what_its_objective_needs(entries, method):
    kd = settled(compose(f"kd={method}"), {})[0].kd
    needs = Objective(instantiate(kd.terms), dict(kd.weights)).needs
    entry = entries[method]
    assert set(entry.data["reads"]) == needs
    assert entry.data["bank"] == (needs <= LOGITS_ONLY if needs else None)


def test_the_table_fits_a_terminal_and_names_every_method_setting_and_paper(capsys, entries):
    text = said(capsys, "methods")
    lines = text.splitlines()
    assert all(len(line) <= zoo.WIDTH for line in lines if "https://" not in line)
    place = {entry.family: lines.index(entry.family) for entry in entries.values()}
    for entry in entries.values():
        (row,) = (k for k, line in enumerate(lines) if line.split()[:1] == [entry.name])
        above = max((k, family) for family, k in place.items() if k < row)
        assert above[1] == entry.family
        assert entry.paper.link in text and all(choice in text for choice in zoo.choices(entry))
    assert list(place) == [family for family in zoo.FAMILIES if family in place]


def test_the_markdown_has_a_row_a_method_and_links_that_lead_to_the_papers(capsys, entries):
    head, rule, *rows = said(capsys, "methods", "--markdown").splitlines()
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in (head, rule, *rows)]
    assert {len(row) for row in cells} == {6} and set(cells[1]) == {" :-- "}
    listed = {row[1].strip(" `"): row for row in cells[2:]}
    assert set(listed) == set(METHODS) and len(rows) == len(METHODS)
    for name, (_, _, _, _, settings, paper) in listed.items():
        assert f"]({entries[name].paper.link})" in paper
        assert all(f"`{choice}`" in settings for choice in zoo.choices(entries[name]))


def test_json_holds_values_and_not_text(capsys):
    listed = {method["name"]: method for method in json.loads(said(capsys, "methods", "--json"))}
    assert set(listed) == set(METHODS)
    hinton = listed["hinton"]
    assert hinton["reads"] == ["logits"] and hinton["bank"] is True
    assert hinton["settings"].keys() == {"temperature", "alpha"} and hinton["settings"]["temperature"] > 0
    assert hinton["paper"]["year"] == 2015 and hinton["paper"]["authors"] == "Hinton et al."
    assert listed["supervised"]["reads"] == [] and listed["supervised"]["bank"] is None
    assert json.loads(said(capsys, "methods", "hinton", "--json")) == hinton


@pytest.mark.parametrize("method", METHODS)
def test_one_method_is_shown_with_all_that_its_page_says(capsys, method):
    text = said(capsys, "methods", method)
    for line in (CONF / "kd" / f"{method}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            assert line.removeprefix("#").strip() in text
        elif note := re.match(r"(\w+):.*\s# (.+)", line):
            row = text.partition(f"kd.{note[1]} ")[2]
            assert re.sub(r"\s+", "", note[2]) in re.sub(r"\s+", "", row)
    assert f"{method}.yaml" in text and f"python -m kd.run kd={method}" in text


PAGE = """\
# Logits: A Title (with Brackets): and a Colon (One & Two 2031), https://example.org/a_b.
# Costs nothing.
# Defaults: none | at all.
temperature: 2  # of both
alpha: 1e-3
places: [-2, -1]  # which
  # of two
# what is
# said above
names: [{student: tiny_cnn, width: 3}]
mode: null
half: ${.alpha}
terms:
  hard:
    _target_: kd.methods.supervised.CrossEntropy
  soft:
    _target_: kd.methods.hinton.Hinton
    temperature: ${...temperature}
weights:
  hard: ${one_minus:${..alpha}}
  soft: ${..alpha}
"""


def test_a_new_page_is_listed_by_being_there(configs, capsys):
    (configs / "new.yaml").write_text(PAGE)
    (new,) = (method for method in json.loads(said(capsys, "methods", "--json")) if method["name"] == "new")
    assert new["family"] == "Logits"
    assert new["paper"] == {
        "title": "A Title (with Brackets): and a Colon",
        "authors": "One & Two",
        "year": 2031,
        "link": "https://example.org/a_b",
    }
    values = {"temperature": 2, "alpha": 0.001, "places": [-2, -1], "names": [{"student": "tiny_cnn", "width": 3}]}
    assert new["settings"] == {**values, "mode": None, "half": "${.alpha}"}
    assert new["notes"] == {"temperature": "of both", "places": "which of two", "names": "what is said above"}
    table = said(capsys, "methods")
    assert "temperature=2  alpha=0.001" in table and "names=[{student:tiny_cnn,width:3}]" in table
    assert "half" not in table  # it follows from alpha
    assert "(1 - alpha) × hard: kd.methods.supervised.CrossEntropy" in said(capsys, "methods", "new")


def test_a_page_may_stand_on_another_and_set_what_is_elsewhere(configs, capsys):
    (configs / "based.yaml").write_text("# words\ndefaults: [hinton]\ntemperature: 9.0\n")
    wide = "# @package _global_\n# words\nkd:\n  weights: {hard: 1.0}\n  terms: {hard: {_target_: kd.methods.supervised"
    wide += ".CrossEntropy}}\n  size: 3  # how large\ntrain:\n  student:\n    epochs: 60  # ten times\n"
    (configs / "wide.yaml").write_text(wide)
    based, wide = (json.loads(said(capsys, "methods", name, "--json")) for name in ("based", "wide"))
    alpha = json.loads(said(capsys, "methods", "hinton", "--json"))["settings"]["alpha"]
    assert based["settings"] == {"temperature": 9.0, "alpha": alpha} and based["reads"] == ["logits"]
    assert based["comments"] == ["words"] and based["family"] == "Others" and based["paper"] is None
    assert wide["settings"] == {"size": 3} and wide["elsewhere"] == {"train.student.epochs": 60}
    assert wide["notes"] == {"size": "how large", "train.student.epochs": "ten times"}
    assert "train.student.epochs=60" in said(capsys, "methods")
    assert "| Others | `based` |" in said(capsys, "methods", "--markdown")


@pytest.mark.parametrize(("soft", "reads"), [("1.0", ["logits"]), ("0.0", []), ("${..weight}", [])])
def test_a_term_of_weight_zero_reads_nothing_and_a_wrapper_what_is_inside(configs, capsys, soft, reads):
    inside = "{_target_: kd.methods.hinton.Hinton, temperature: 1.0}"
    wrapper = f"{{_target_: kd.methods.lskd.Standardized, term: {inside}}}"
    (configs / "new.yaml").write_text(f"weight: 0\nterms: {{a: {wrapper}}}\nweights:\n  a: {soft}\n")
    assert json.loads(said(capsys, "methods", "new", "--json"))["reads"] == reads


def test_a_page_that_cannot_be_read_hides_no_other(configs, capsys):
    (configs / "torn.yaml").write_text("terms: {a: [")
    (configs / "gone.yaml").write_text("terms: {a: {_target_: kd.methods.nowhere.Term}}")
    (configs / "mute.yaml").write_text("terms: {a: {_target_: torch.nn.Identity}}")
    assert zoo.main(["methods"]) == 1
    said = capsys.readouterr()
    assert "hinton" in said.out and "temperature=" in said.out
    torn, gone, mute = (said.err.partition(f"{name}.yaml: ")[2] for name in ("torn", "gone", "mute"))
    assert (
        "expected" in torn and "kd.methods.nowhere" in gone and "torch.nn.Identity does not say what it reads" in mute
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["method"], "there is no group 'method'; did you mean methods?"),
        (["methods", "hintn"], "there is no method 'hintn'; did you mean hinton?"),
        (["methods", "HINTON"], "there is no method 'HINTON'; did you mean hinton?"),
        (["methods", "xyz"], "there is no method 'xyz'; there are hinton, supervised"),
    ],
)
def test_a_name_that_there_is_not_is_answered_with_the_nearest(configs, capsys, arguments, sentence):
    assert zoo.main(arguments) == 2
    assert capsys.readouterr().err == f"kd.zoo: {sentence}\n"


def test_without_a_group_the_groups_are_listed(configs, capsys):
    assert re.match(r"methods +2  what the student learns from", said(capsys))


def test_the_hints_below_the_table_hold():
    from kd.options import settled

    cfg, choices = settled(compose("kd=combine", "kd.terms=[hinton,supervised]"), {"kd": "combine"})
    assert choices["kd"] == "hinton+supervised" and set(cfg.kd.terms) == {"hard", "hinton"}


def test_the_command_answers_alone_in_any_folder_and_any_alphabet(tmp_path):
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "kd.zoo", "methods"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hinton" in done.stdout and not done.stderr
    done = subprocess.run([*command, "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--markdown" in done.stdout and "methods" in done.stdout


def test_no_row_of_the_readme_is_stale(capsys):
    """A method of one's own needs no row there; what stands there is what `kd.zoo methods --markdown` prints."""
    readme = (CONF.parent / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- python -m kd.zoo methods --markdown -->")[1].split("<!-- end -->")[0]
    rows = shown.strip().splitlines()
    assert len(rows) > 30 and set(rows) <= set(said(capsys, "methods", "--markdown").splitlines())


def test_a_page_that_combines_methods_reads_what_they_read(configs):
    page = "# Logits: A Paper (Somebody 2026), https://arxiv.org/abs/2601.00001.\n# Costs both.\n"
    page += "defaults: [combine, _self_]\n"
    (configs / "both.yaml").write_text(page + "terms: [hinton, supervised]\nhinton:\n  temperature: 3.0\n", "utf-8")
    found, wrong = zoo.entries(zoo.GROUPS["methods"], configs.parent)
    (both,) = [entry for entry in found if entry.name == "both"]
    assert not wrong and both.data["reads"] == ["logits"] and both.settings == {"hinton": {"temperature": 3.0}}
