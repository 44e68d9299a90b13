"""Values that settings may have, and the code that reads them."""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from kd.config.checks import check_keys, check_outputs
from kd.config.keys import did_you_mean_key, references
from kd.config.rules import ANYTHING, FLAG, LINE, NULL, list_of, number, or_null, whole
from kd.config.settings import METHOD_SETTINGS, OURS, READ, READ_IF_PRESENT, override_key
from kd.config.signatures import signature_of, source_of
from kd.tracking.wandb_run import MODES
from tests.conftest import CONF, compose

KD = Path(__file__).parents[2] / "kd"
GROUPS = ("data", "attention", "teacher", "student", "kd", "train")


def option_nodes() -> list[tuple[str, dict]]:
    """Return (target, settings) of every config node with a _target_, nested ones too, unresolved."""
    waiting = [
        OmegaConf.to_container(OmegaConf.load(path)) for group in GROUPS for path in (CONF / group).glob("*.yaml")
    ]
    found = []
    for node in waiting:
        if isinstance(node, dict):
            waiting += node.values()
            found += [(node["_target_"], node)] if "_target_" in node else []
    return found


TARGETS = sorted({target for target, _ in option_nodes()})


@pytest.mark.parametrize(
    ("rule", "right", "good", "bad"),
    [
        (number(), "a number", [0, -1.5], [math.nan, math.inf, True, "1", None, [1], 10**400]),
        (number(above=0), "a number above 0", [1e-300, 3], [0, -0.0, -1]),
        (number(0), "a number of 0 or more", [0, 0.0], [-1e-9]),
        (number(0, below=1), "a number in [0, 1)", [0, 0.999], [1, 1.0]),
        (number(above=0, below=1), "a number in (0, 1)", [0.5], [0, 1]),
        (number(0, 1), "a number in [0, 1]", [0, 1], [1.0000001]),
        (whole(2), "a whole number of 2 or more", [2, 10**30], [1, 2.0, True]),
        (whole(1, 65_536), "a whole number in [1, 65,536]", [1, 65_536], [0, 65_537]),
        (whole(most=-1), "a whole number of -1 or less", [-1], [0]),
        (or_null(whole(1)), "a whole number of 1 or more, or null", [None, 1], [0, ""]),
        (list_of(number(), 3), "a list of 3, each a number", [[1, 2, 3]], [[1, 2], [1, 2, "3"], "123", None]),
        (FLAG, "true or false", [True, False], [0, 1, "true", None]),
        (LINE, "text in one line", ["a b", "ندارد\u200cها", "\\"], ["", "a\nb", "\0", "\udcff", "\u2028", 3]),
    ],
)
def test_a_rule_says_what_would_be_right(rule, right, good, bad):
    assert rule.right == right
    assert [value for value in good if not rule.good(value)] == []
    assert [value for value in bad if rule.good(value)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${...temperature}", ["kd.temperature"]),
        ("${seed}", ["seed"]),
        ("${one_minus:${..alpha}}", ["kd.terms.alpha"]),
        ("${oc.env:HOME,outputs} and ${ a.b[0].c }", ["a.b.0.c"]),
        ("${oc.select:kd.hard,1.0}", ["kd.hard"]),
        ("${foo:${seed},${.own}}", ["seed", "kd.terms.soft.own"]),
        ("${kd.${name}.weight}", ["name", "kd"]),
        (r"\${seed}", []),
        (["${seed}", {"x": "${..own}"}], ["seed", "kd.terms.soft.temperature.own"]),
    ],
)
def test_what_an_interpolation_refers_to(text, found):
    assert list(references(text, "kd.terms.soft.temperature")) == found


def test_a_value_is_blamed_on_the_key_that_one_types():
    raw = OmegaConf.to_container(compose())
    assert override_key(raw, "kd.terms.soft.temperature") == "kd.temperature"
    assert override_key(raw, "teacher.network.name") == "teacher.name"
    assert override_key(raw, "kd.terms.hard.label_smoothing") == "kd.terms.hard.label_smoothing", (
        "it is read for itself"
    )


def test_the_nearest_key_is_the_one_that_ends_alike_or_is_spelt_alike():
    known = ["kd.temperature", "train.student.epochs", "train.teacher.epochs", "seed"]
    assert did_you_mean_key("epochs", known) == "; did you mean train.student.epochs or train.teacher.epochs?"
    assert did_you_mean_key("kd.temprature", known) == "; did you mean kd.temperature?"
    assert did_you_mean_key("temprature", known) == "; did you mean kd.temperature?"
    assert did_you_mean_key("something", known) == ""


@pytest.mark.parametrize("target", TARGETS)
def test_a_signature_is_read_without_an_import(target):
    read, real = signature_of(target), inspect.signature(get_object(target)).parameters
    assert set(read.takes) == set(real)
    assert read.needs == {name for name, each in real.items() if each.default is inspect.Parameter.empty}


def test_types_are_read_from_signatures():
    takes = signature_of("kd.methods.rkd.RKD").takes
    assert takes["distance"].right == "a number" and takes["normalize"] is FLAG
    takes = signature_of("kd.train.recipe.Recipe").takes
    assert takes["epochs"].right == "a whole number" and takes["ema"].right == "a number, or null"
    assert signature_of("kd.methods.lskd.Standardized").takes["term"] is ANYTHING
    assert signature_of("kd.methods.sp.SP").takes["stages"].right == "a list, each a whole number, or null"
    assert signature_of("kd.methods.sp.Sp") is None and signature_of("nowhere.at.all") is None
    assert source_of("kd.methods.sp") == KD / "methods" / "sp.py" and not NULL.good(0)


@pytest.mark.parametrize("target", TARGETS)
def test_a_constructor_uses_all_that_it_takes(target):
    """A setting that the constructor takes and ignores is as dead as one that it does not take."""
    tree = ast.parse(inspect.getsource(get_object(target)))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # of a dataclass
    if target == "kd.train.recipe.Recipe":
        used |= {"epochs"}  # of the loop
    given = {"channels", "image_size"}  # the program passes them to all; not every variant uses them
    assert set(signature_of(target).takes) - given <= used


def test_each_listed_setting_is_read():
    """Each key of the lists occurs in the code, as an attribute or as text, outside of the lists themselves."""
    known = set[str]()
    for path in KD.rglob("*.py"):
        if path.name != "settings.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                known |= {node.attr} if isinstance(node, ast.Attribute) else set()
                known |= {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
                known |= {node.arg} if isinstance(node, ast.arg | ast.keyword) and node.arg else set()
    assert {key.rpartition(".")[2] for key in [*READ, *READ_IF_PRESENT, *METHOD_SETTINGS]} - {"*"} <= known


def test_the_modes_of_tracking_are_the_trackers():
    assert READ["tracking.mode"].right == "offline, online or disabled"
    assert all(READ["tracking.mode"].good(mode) for mode in MODES) and len(MODES) == 3


def test_constructors_refuse_by_themselves_what_is_refused_before_them():
    tried = 0
    for target, node in option_nodes():
        if target.split(".")[1] not in ("methods", "train", "augment"):
            continue
        for name in set(node) & set(OURS):
            if (
                OURS[name].names
                or OURS[name].good(-1.0)
                or OURS[name].good([-1.0])
                or name in ("stages", "dim", "channels", "negatives")
            ):
                continue
            tried += 1
            wrong = {name: [-1.0] if name == "temperatures" else -1.0} | ({"epochs": 1} if name != "epochs" else {})
            takes = signature_of(target).takes
            with pytest.raises(ValueError, match=name):
                get_object(target)(**{key: value for key, value in wrong.items() if key in takes})
    assert tried > 30


def test_what_refers_only_to_itself_is_read_by_nothing():
    raw = OmegaConf.to_container(compose("+mine.a=1", "+mine.b=${mine.a}"))
    with pytest.raises(ValueError, match="nothing reads mine.a"):
        check_keys(raw)
    check_keys(raw, hydra={"run": {"dir": "${mine.b}"}})


@pytest.mark.parametrize("group", ["teacher", "kd"])
def test_what_is_no_file_has_no_dead_settings_either(group):
    chosen = {"teacher": ["teacher=wrn_40_1", "teacher=resnet10t"], "kd": ["kd=combine"]}[group]
    for option in chosen:
        check_keys(OmegaConf.to_container(compose(option)))


def test_a_folder_that_can_be_written_is_not_touched(tmp_path):
    check_outputs(str(tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is not a folder"):
        check_outputs(str(tmp_path / "file" / "x"))
    with pytest.raises(ValueError, match="outputs must be a writable folder"):
        check_outputs("/proc/nowhere")
