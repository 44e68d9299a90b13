"""kd.zoo lists every option with its own comments, in all three forms."""

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
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from reference.options import END
from reference_pages import GROUPS as PAGE_OF

from kd.build import build_network
from kd.config.combine import OF_ANY, expand_combination
from kd.config.networks import network_of
from kd.evaluation.cost import macs, params
from kd.interfaces import LOGITS_ONLY, extract_outputs
from kd.models.tiny_cnn import TinyCNN
from kd.train.objective import Objective
from kd.zoo.__main__ import format_all, main
from kd.zoo.counting import Case, counts_of, live_params
from kd.zoo.groups import GROUPS, default_case
from kd.zoo.groups import entries as read
from kd.zoo.methods import NO_SETTINGS
from kd.zoo.options import FAMILIES, Entry, read_option
from kd.zoo.tables import WIDTH, choices, describe_entry, markdown, plain, terminal
from tests import quickly
from tests.conftest import CONF, compose, options

METHODS = options("kd")
COUNTED = [name for name in GROUPS if name != "methods"]


def printed(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    """Make a copy of conf/ with two methods the config folder (KD_CONF_DIR)."""
    folder = tmp_path / "conf"
    (folder / "kd").mkdir(parents=True)
    shutil.copy(CONF / "config.yaml", folder)
    for name in ("supervised", "hinton"):
        shutil.copy(CONF / "kd" / f"{name}.yaml", folder / "kd")
    monkeypatch.setenv("KD_CONF_DIR", str(folder))
    return folder / "kd"


@pytest.fixture
def networks(tmp_path, monkeypatch) -> Path:
    """Make a copy of conf/ with few networks the config folder (KD_CONF_DIR)."""
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    kept = {
        "student": ("tiny_cnn", "timm"),
        "teacher": ("tiny_cnn", "timm", "vea_resnet18"),
        "attention": ("none", "vea"),
    }
    for group, names in kept.items():
        for path in (folder / group).glob("*.yaml"):
            if path.stem not in names:
                path.unlink()
    monkeypatch.setenv("KD_CONF_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    found, wrong = read(GROUPS["methods"], CONF)
    assert not wrong
    return {entry.name: entry for entry in found}


@pytest.fixture(scope="module")
def listed() -> dict[str, list[Entry]]:
    """All entries but the methods, read and counted once."""
    found = {}
    for name in COUNTED:
        found[name], wrong = read(GROUPS[name], CONF)
        assert not wrong, wrong
    return found


@cache
def chosen(method: str):
    return compose(f"kd={method}").kd


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_listed_with_the_settings_that_hydra_sees(entries, method):
    entry = entries[method]
    config = OmegaConf.to_container(chosen(method), resolve=False)
    hydra = {key: value for key, value in config.items() if key not in {*NO_SETTINGS, *OF_ANY}}
    assert entry.settings == {key: hydra[key] for key in entry.settings}
    assert isinstance(config["terms"], list) or set(entry.settings) == set(hydra)
    assert entry.paper and entry.family in FAMILIES


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_reads_is_what_its_objective_needs(entries, method):
    kd = expand_combination(compose(f"kd={method}"), {})[0].kd
    needs = Objective(instantiate(kd.terms), dict(kd.weights)).needs
    entry = entries[method]
    assert set(entry.data["reads"]) == needs
    assert entry.data["cached"] == (needs <= LOGITS_ONLY if needs else None)


@pytest.mark.parametrize("method", METHODS)
def test_the_year_of_a_method_is_that_of_its_paper(entries, method):
    """The number of a preprint says its year and month: a year after the conference at most, three before it."""
    paper = entries[method].paper
    if numbered := re.search(r"arxiv\.org/abs/(\d\d)(\d\d)\.", paper.link):
        assert -1 <= paper.year - 2000 - int(numbered[1]) <= 3
    elif printed_in := re.search(r"(?:CVPR|ICCV|WACV|ECCV_?)_?(20\d\d)", paper.link):
        assert paper.year == int(printed_in[1])
    assert 2006 <= paper.year <= 2026


def test_the_table_fits_a_terminal_and_names_every_method_setting_and_paper(capsys, entries):
    text = printed(capsys, "methods")
    lines = text.splitlines()
    assert all(len(line) <= WIDTH for line in lines if "https://" not in line)
    place = {entry.family: lines.index(entry.family) for entry in entries.values()}
    for entry in entries.values():
        (row,) = (k for k, line in enumerate(lines) if line.split()[:1] == [entry.name])
        above = max((k, family) for family, k in place.items() if k < row)
        assert above[1] == entry.family
        assert entry.paper.link in text and all(choice in text for choice in choices(entry))
    assert list(place) == [family for family in FAMILIES if family in place]


def test_the_markdown_has_a_row_a_method_and_links_that_lead_to_the_papers(capsys, entries):
    head, rule, *rows = printed(capsys, "methods", "--markdown").splitlines()
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in (head, rule, *rows)]
    assert {len(row) for row in cells} == {7} and cells[1] == [
        " --: " if name == " year " else " :-- " for name in cells[0]
    ]
    listed = {row[1].strip(" `"): row for row in cells[2:]}
    assert set(listed) == set(METHODS) and len(rows) == len(METHODS)
    for name, (_, _, year, _, cached, settings, paper) in listed.items():
        assert int(year) == entries[name].paper.year and f" {year.strip()} " in f"{paper.rstrip()} "
        assert cached.strip() == {True: "yes", False: "no", None: "–"}[entries[name].data["cached"]]
        assert f"]({entries[name].paper.link})" in paper
        assert all(f"`{choice}`" in settings for choice in choices(entries[name]))


def test_json_holds_values_and_not_text(capsys):
    listed = {method["name"]: method for method in json.loads(printed(capsys, "methods", "--json"))}
    assert set(listed) == set(METHODS)
    hinton = listed["hinton"]
    assert hinton["reads"] == ["logits"] and hinton["cached"] is True
    assert hinton["settings"].keys() == {"temperature", "alpha"} and hinton["settings"]["temperature"] > 0
    assert hinton["paper"]["year"] == 2015 and hinton["paper"]["authors"] == "Hinton et al."
    assert listed["supervised"]["reads"] == [] and listed["supervised"]["cached"] is None
    assert json.loads(printed(capsys, "methods", "hinton", "--json")) == hinton


@pytest.mark.parametrize("method", METHODS)
def test_one_method_is_shown_with_all_of_its_comments(capsys, method):
    text = printed(capsys, "methods", method)
    for line in (CONF / "kd" / f"{method}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            assert line.removeprefix("#").strip() in text
        elif note := re.match(r"(\w+):.*\s# (.+)", line):
            row = text.partition(f"kd.{note[1]} ")[2]
            assert re.sub(r"\s+", "", note[2]) in re.sub(r"\s+", "", row)
    assert f"{method}.yaml" in text and f"python -m kd.run kd={method}" in text


OPTION = """\
# Logits: A Title (with Brackets): and a Colon (One & Two 2031), https://example.org/a_b.
# Costs nothing.
# Defaults: none | at all.
temperature: 2  # of both
alpha: 1e-3
places: [-2, -1]  # which
  # of two
# what is
# written above
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


def test_a_new_file_is_listed_without_registration(configs, capsys):
    (configs / "new.yaml").write_text(OPTION)
    (new,) = (method for method in json.loads(printed(capsys, "methods", "--json")) if method["name"] == "new")
    assert new["family"] == "Logits"
    assert new["paper"] == {
        "title": "A Title (with Brackets): and a Colon",
        "authors": "One & Two",
        "year": 2031,
        "link": "https://example.org/a_b",
    }
    values = {"temperature": 2, "alpha": 0.001, "places": [-2, -1], "names": [{"student": "tiny_cnn", "width": 3}]}
    assert new["settings"] == {**values, "mode": None, "half": "${.alpha}"}
    assert new["notes"] == {"temperature": "of both", "places": "which of two", "names": "what is written above"}
    table = printed(capsys, "methods")
    assert "temperature=2  alpha=0.001" in table and "names=[{student:tiny_cnn,width:3}]" in table
    assert "half" not in table  # it follows from alpha
    assert "(1 - alpha) × hard: kd.methods.supervised.CrossEntropy" in printed(capsys, "methods", "new")


def test_an_option_may_extend_another_and_set_values_elsewhere(configs, capsys):
    (configs / "based.yaml").write_text("# words\ndefaults: [hinton]\ntemperature: 9.0\n")
    wide = "# @package _global_\n# words\nkd:\n  weights: {hard: 1.0}\n  terms: {hard: {_target_: kd.methods.supervised"
    wide += ".CrossEntropy}}\n  size: 3  # how large\ntrain:\n  student:\n    epochs: 60  # ten times\n"
    (configs / "wide.yaml").write_text(wide)
    based, wide = (json.loads(printed(capsys, "methods", name, "--json")) for name in ("based", "wide"))
    alpha = json.loads(printed(capsys, "methods", "hinton", "--json"))["settings"]["alpha"]
    assert based["settings"] == {"temperature": 9.0, "alpha": alpha} and based["reads"] == ["logits"]
    assert based["comments"] == ["words"] and based["family"] == "Others" and based["paper"] is None
    assert wide["settings"] == {"size": 3} and wide["elsewhere"] == {"train.student.epochs": 60}
    assert wide["notes"] == {"size": "how large", "train.student.epochs": "ten times"}
    assert "train.student.epochs=60" in printed(capsys, "methods")
    assert "| Others | `based` |" in printed(capsys, "methods", "--markdown")


@pytest.mark.parametrize(("soft", "reads"), [("1.0", ["logits"]), ("0.0", []), ("${..weight}", [])])
def test_a_term_of_weight_zero_reads_nothing_and_a_wrapper_what_is_inside(configs, capsys, soft, reads):
    inside = "{_target_: kd.methods.hinton.Hinton, temperature: 1.0}"
    wrapper = f"{{_target_: kd.methods.lskd.Standardized, term: {inside}}}"
    (configs / "new.yaml").write_text(f"weight: 0\nterms: {{a: {wrapper}}}\nweights:\n  a: {soft}\n")
    assert json.loads(printed(capsys, "methods", "new", "--json"))["reads"] == reads


def test_a_file_that_cannot_be_read_hides_no_other(configs, capsys):
    (configs / "torn.yaml").write_text("terms: {a: [")
    (configs / "gone.yaml").write_text("terms: {a: {_target_: kd.methods.nowhere.Term}}")
    (configs / "mute.yaml").write_text("terms: {a: {_target_: torch.nn.Identity}}")
    assert main(["methods"]) == 1
    printed = capsys.readouterr()
    assert "hinton" in printed.out and "temperature=" in printed.out
    torn, gone, mute = (printed.err.partition(f"{name}.yaml: ")[2] for name in ("torn", "gone", "mute"))
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
def test_the_error_for_an_unknown_name_gives_the_nearest(configs, capsys, arguments, sentence):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"kd.zoo: {sentence}\n"


def test_the_hints_below_the_tables_hold():
    (student,) = re.findall(r"teacher=([a-z]\w+)", GROUPS["teachers"].legend)
    assert student in options("student") and student not in options("teacher")
    assert compose(f"teacher={student}").teacher.network._target_ == compose(f"student={student}").student._target_
    legends = (group.legend.format(**Case()._asdict()) for group in GROUPS.values())
    assert all(len(line) <= WIDTH for legend in legends for line in legend.splitlines())
    cfg, choices = expand_combination(compose("kd=combine", "kd.terms=[hinton,supervised]"), {"kd": "combine"})
    assert choices["kd"] == "hinton+supervised" and set(cfg.kd.terms) == {"hard", "hinton"}


def test_the_command_answers_alone_in_any_folder_and_any_alphabet(tmp_path):
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "kd.zoo", "teachers", "tiny_cnn", "--json"]  # with nothing that kd.run brings
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and json.loads(done.stdout)["params"] > 800_000, done.stderr
    done = quickly.run("kd.zoo", "methods", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "hinton" in done.stdout and not done.stderr
    done = quickly.run("kd.zoo", "methods", "--help", env=environment, cwd=tmp_path)
    assert done.returncode == 0 and "--markdown" in done.stdout and "methods" in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_no_row_of_the_reference_is_stale(entries, listed, group):
    """Every row of the page is one that `kd.zoo GROUP --markdown` prints; a user's own option needs no row."""
    page = (CONF.parent / "docs" / PAGE_OF[group]).read_text(encoding="utf-8")
    _, marker, shown = page.partition(f"<!-- python -m kd.zoo {group} --markdown -->")
    rows = shown.partition(END)[0].strip().splitlines()
    found = [*entries.values()] if group == "methods" else listed[group]
    least = {"methods": 33, "attentions": 15, "teachers": 7, "students": 28, "data": 7, "augments": 9}
    assert marker and len(rows) - 2 >= least[group] and set(rows) <= set(markdown(found, GROUPS[group]).splitlines())


def test_an_option_that_combines_methods_reads_what_they_read(configs):
    header = "# Logits: A Paper (Author 2026), https://arxiv.org/abs/2601.00001.\n# Costs both.\n"
    header += "defaults: [combine, _self_]\n"
    (configs / "both.yaml").write_text(header + "terms: [hinton, supervised]\nhinton:\n  temperature: 3.0\n", "utf-8")
    found, wrong = read(GROUPS["methods"], configs.parent)
    (both,) = [entry for entry in found if entry.name == "both"]
    assert not wrong and both.data["reads"] == ["logits"] and both.settings == {"hinton": {"temperature": 3.0}}


def numbers(capsys, *arguments: str) -> dict:
    return json.loads(printed(capsys, *arguments, "--json"))


@pytest.mark.parametrize("group", COUNTED)
def test_every_option_is_listed_in_all_three_forms(listed, group):
    found, names = listed[group], set(options(GROUPS[group].folder))
    assert {entry.name for entry in found} == names
    lines = terminal(found, GROUPS[group]).splitlines()
    assert all(len(line) <= WIDTH for line in lines if "https://" not in line)
    assert {line.split()[0] for line in lines if re.match(r"  \w", line)} == names
    head, _, *rows = (re.split(r"(?<!\\)\|", row)[1:-1] for row in markdown(found, GROUPS[group]).splitlines())
    assert {row[1].strip(" `") for row in rows} == names and {len(row) for row in rows} == {len(head)}
    for entry in found:
        page, data = describe_entry(entry, GROUPS[group]), plain(entry)
        assert all(line in page for line in entry.comments)
        assert all(f"{GROUPS[group].folder}.{name} " in page for name in entry.settings)
        assert json.loads(json.dumps(data)) == data and data["settings"] == entry.settings
        assert entry.family in FAMILIES or entry.paper is None


def test_without_a_group_everything_is_shown_a_line_each(listed):
    lines = format_all(listed, default_case(CONF), CONF, False).splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    shown = [line.split()[0] for line in lines if re.match(r"  \w", line)]
    assert sorted(shown) == sorted(entry.name for found in listed.values() for entry in found)
    assert f"methods: {len(METHODS)}," in "\n".join(lines)
    assert all(f"\n{name}: " in "\n" + "\n".join(lines) for name in GROUPS)
    assert format_all(listed, Case(), CONF, True).count("\n| :-- |") == len(COUNTED)


def test_an_entry_shows_what_hydra_composes():
    based = {
        group: [name for name in options(group) if "defaults:" in (CONF / group / f"{name}.yaml").read_text("utf-8")]
        for group in ("student", "teacher", "attention", "data")
    }
    for k in range(max(map(len, based.values()))):
        chosen = {group: names[k] for group, names in based.items() if k < len(names)}
        cfg = compose(*(f"{group}={name}" for group, name in chosen.items()))
        for group, name in chosen.items():
            node, made = read_option(CONF / group / f"{name}.yaml", group).node, OmegaConf.to_container(cfg[group])
            of_every_data_set = set(OmegaConf.load(CONF / "config.yaml").data) if group == "data" else set()
            assert node == {key: value for key, value in made.items() if key in node or key not in of_every_data_set}


@pytest.mark.parametrize(
    ("group", "name", "known"),
    [
        ("student", "tiny_cnn", {"params": 94_470, "live_params": 94_470, "macs": 23_225_088, "embedding": 128}),
        ("teacher", "vea_resnet18", {"live_params": 12_306_057, "published_params": 23_825_497, "macs": 151_460_096}),
        ("teacher", "resnet18", {"params": 11_179_590, "published_params": 11_179_590, "macs": 97_958_912}),
    ],
)
def test_the_numbers_are_those_of_the_network_that_is_built(listed, group, name, known):
    (shown,) = (plain(entry) for entry in listed[f"{group}s"] if entry.name == name)
    assert {key: shown[key] for key in known} == known and (shown["image_size"], shown["num_classes"]) == (48, 6)
    network = build_network(network_of(name, (group,), "test"), 6, 48)
    assert shown["params"] == params(network) and shown["macs"] == macs(network, 48)
    with torch.no_grad():
        maps = extract_outputs(network.eval(), torch.zeros(1, 3, 48, 48)).features
    assert shown["maps"] == [list(one.shape[1:]) for one in maps]


def test_an_attention_adds_what_it_says(listed):
    shown = {entry.name: plain(entry) for entry in listed["attentions"]}
    assert shown["none"]["params_added"] == shown["none"]["macs_added"] == 0
    vea = shown["vea"]
    assert (vea["params_added"], vea["macs_added"]) == (12_306_057 - 11_179_590, 151_460_096 - 97_958_912)
    assert vea["params_added_share"] == pytest.approx(0.1008, abs=1e-4) and vea["backbone"] == "resnet18"


def test_what_no_forward_pass_touches_is_not_live():
    network = TinyCNN(6, 16, width=0.25)
    whole, network.spare = params(network), torch.nn.Linear(3, 3)
    network(torch.rand(1, 3, 16, 16)).sum().backward()
    reached = sum(p.numel() for p in network.parameters() if p.grad is not None)
    assert live_params(network, network(torch.rand(1, 3, 16, 16))) == reached == whole
    counts = counts_of(network, 16)
    assert (counts.live, counts.params) == (whole, whole + 12)


def test_counts_follow_size_classes_and_backbone(networks, capsys):
    tiny = numbers(capsys, "students", "tiny_cnn", "--size", "32", "--classes", "100")
    assert tiny["params"] == 94_470 + 94 * 129 and tiny["macs"] == 10_334_720
    assert tiny["maps"] == [[32, 16, 16], [64, 8, 8], [128, 4, 4]]
    text = printed(capsys, "students", "--size", "32", "--classes", "100")
    assert "32 x 32 pixels and 100 classes" in text and "10.33" in text and "any" in text
    for name in ("tiny_cnn", "mobilenetv3_small_050"):  # an option, and a name of timm
        vea, none = (numbers(capsys, "attentions", each, "--backbone", name) for each in ("vea", "none"))
        assert vea["backbone"] == name and vea["params"] - vea["params_added"] == none["params"]
        assert vea["params_added"] > 0 and none["params_added"] == 0


def test_pixels_and_classes_are_the_default_data_sets(networks):
    assert default_case(networks) == Case(48, 6)
    root = (networks / "config.yaml").read_text("utf-8")
    (networks / "config.yaml").write_text(root.replace("data: scenes", "data: cifar100"), "utf-8")
    assert default_case(networks) == Case(32, 100)
    shutil.rmtree(networks / "data")
    assert default_case(networks) == Case()


NEW = {
    "student": "# Tiny: small.\n# Costs little.\ndefaults: [tiny_cnn, _self_]\nwidth: 0.5  # half\n",
    "teacher": "# Tiny: small.\ndefaults: [tiny_cnn, _self_]\nwidth: 0.5  # half\n",
    "attention": "# Channel: A Gate (Author 2031), https://example.org/gate.\n"
    "defaults: [vea, _self_]\nstages: [1]  # half\n",
    "data": "# Objects: things.\n# 12 classes, 1,200 + 300 images, 64 x 64 RGB, MIT licence.\nimage_size: 64  # half\n",
    "augment": "# Crop: mine.\nflip: 0.5  # half\n"
    "steps: {flip: {_target_: kd.augment.flip.Flip, probability: '${augment.flip}'}}\n",
}


@pytest.mark.parametrize("group", COUNTED)
def test_a_new_file_is_listed_and_a_damaged_one_hides_no_other(networks, capsys, group):
    folder = GROUPS[group].folder
    (networks / folder / "new.yaml").write_text(NEW[folder], "utf-8")
    new = numbers(capsys, group, "new")
    expected = {
        "student": {"params": 24_198, "family": "Tiny"},
        "teacher": {"params": 24_198, "family": "Tiny"},
        "attention": {"params_added": 147_968 + 73_856 + 129, "family": "Channel"},  # the copy, the scan, its map
        "augment": {"family": "Crop", "settings": {"flip": 0.5}, "steps": {"flip": "kd.augment.flip.Flip"}},
        "data": {"classes": 12, "train": 1_200, "test": 300, "pixels": "64 x 64 RGB", "licence": "MIT"},
    }[folder]
    assert {key: new[key] for key in expected} == expected and "half" in new["notes"].values()
    (networks / folder / "torn.yaml").write_text("a: [", "utf-8")
    gone = "{_target_: kd.models.nowhere.Net}"
    texts = {
        "student": "_target_: kd.models.nowhere.Net\n",
        "teacher": f"defaults: [tiny_cnn, _self_]\nnetwork: {gone}\n",
    }
    attention = f"wrap: {gone}\nstages: null\n"
    (networks / folder / "gone.yaml").write_text(texts.get(folder, attention), "utf-8")
    assert main([group]) == 1
    printed = capsys.readouterr()
    assert "new" in printed.out and "gone" in printed.out and "torn.yaml: " in printed.err
    assert group in ("data", "augments") or "kd.models.nowhere" in printed.err.partition("gone.yaml: ")[2]


def test_what_does_not_take_the_image_is_listed_without_numbers(networks, capsys):
    assert main(["students", "--size", "4"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"tiny_cnn +– +–", printed.out) and "data.image_size must be 8 or more, got 4" in printed.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["student"], "there is no group 'student'; did you mean students"),
        (["students", "tinycnn"], "there is no student 'tinycnn'; did you mean tiny_cnn?"),
        (["data", "cifar"], "there is no data set 'cifar'; did you mean cifar10 or cifar100?"),
        (["attentions", "--backbone", "resnet_18"], "timm has no model 'resnet_18'; did you mean"),
        (["data", "--size", "3"], "--size changes nothing in data"),
        (["students", "--classes", "0"], "--classes must be 1 or more, got 0"),
        (["students", "--figure", "a.png"], "--figure draws views: python -m kd.zoo augments --figure a.png"),
        (
            ["augments", "--figure", "a.gif"],
            "--figure writes a PNG or a JPEG, so its file must end with .png or .jpg, got a.gif",
        ),
        (["augments", "--figure", "none/a.png"], "[Errno 2] No such file or directory: "),
    ],
)
def test_a_wrong_argument_causes_an_error_in_one_sentence(networks, capsys, arguments, sentence):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"kd.zoo: {sentence}")


def test_every_data_set_says_what_it_holds(listed):
    for entry in listed["data"]:
        assert entry.family in FAMILIES and ("as found" in entry.cells.values() or entry.data["classes"])
    (scenes,) = (entry for entry in listed["data"] if entry.name == "scenes")
    assert scenes.data["train"] == scenes.settings["train_images"] and scenes.data["pixels"].startswith(
        f"{scenes.settings['image_size']} x "
    )
    (folder,) = (entry for entry in listed["data"] if entry.name == "folder")
    assert set(folder.cells.values()) == {"as found"} and folder.data["classes"] is None


def test_a_network_that_the_command_line_must_name_is_any(networks, capsys):
    (timm,) = (entry for entry in json.loads(printed(capsys, "students", "--json")) if entry["name"] == "timm")
    assert timm["params"] is None and timm["settings"]["name"] == "???"
    assert "python -m kd.run student=timm student.name=…" in printed(capsys, "students", "timm")
    assert re.search(r"timm +any +any +any +any +name=\?\?\?", printed(capsys, "students"))


def test_a_teacher_shows_its_attention_and_not_what_every_teacher_has(listed):
    (vea,) = (entry for entry in listed["teachers"] if entry.name == "vea_resnet18")
    assert "attention=vea" in choices(vea) and "seed" in vea.settings
    assert not any(choice.startswith(("seed=", "ensemble=")) for choice in choices(vea))
