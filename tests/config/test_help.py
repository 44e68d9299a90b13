"""``--help`` names existing options, shows the values of the command, imports nothing heavy and costs little."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kd.config import generated
from kd.config.checks import check_keys
from kd.config.composed import resolved
from kd.config.help import WIDTH
from kd.config.keys import first_missing, get_path
from kd.runtime.values import parse_value
from tests import quickly
from tests.conftest import CONF, compose, options

HELP = OmegaConf.load(CONF / "hydra" / "help" / "kd.yaml")
TEXT = OmegaConf.to_container(HELP)["template"]  # interpolations as they are written
EXAMPLES = re.findall(r"^  \w.* {2,}python -m kd\.run (.*)$", TEXT.partition("Groups:")[0], re.M)
GROUPS = ("data", "augment", "teacher", "attention", "student", "kd", "train", "tracking", "experiment")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A function that returns what ``--help`` prints, given the other arguments."""
    place = tmp_path_factory.mktemp("elsewhere")

    def show(*arguments: str, flag: str = "--help") -> str:
        environment = {name: value for name, value in os.environ.items() if name != "KD_OUTPUTS"}
        done = quickly.run("kd.run", flag, *arguments, cwd=place, env=environment | {"PYTHONPATH": str(CONF.parent)})
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert not [*place.iterdir()], "help writes nothing"
        return done.stdout

    return show


def group_lines(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  ([\w/]+)=(\w+ .*)$", text.partition("Groups:")[2].partition("Settings:")[0], re.M))


def test_help_fits_on_a_page(shown):
    lines = shown().splitlines()
    assert len(lines) <= 54
    assert not [line for line in lines if len(line) > WIDTH]


def test_help_names_every_group_with_its_choice_and_options_that_exist(shown):
    lines = group_lines(shown())
    assert {*lines} == {*GROUPS, "hydra/launcher"}
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, "hydra"}
    for group in GROUPS:
        offered = {*options(group), *generated.generated(group)}
        chosen, _, others = lines[group].partition(" ")
        named, _, rest = others.strip().partition(", ... ")
        assert chosen in offered or (group, chosen) == ("experiment", "null")
        assert {*named.split(", ")} <= offered - {chosen}
        assert rest == f"({len(offered)} in all)" or {*named.split(", ")} == offered - {chosen}


def test_no_option_that_help_puts_first_is_gone():
    for words in re.findall(r"\$\{help_group:([^}]+)\}", TEXT):
        group, *first = words.split(",")
        assert {*first} <= {*options(group), *generated.generated(group)}, group


@pytest.mark.parametrize("choices", [[], ["kd=dkd", "train=cifar", "student=resnet8x4", "seed=3", "baseline=false"]])
def test_help_shows_the_values_that_the_command_would_take(shown, choices):
    settings = re.findall(r"\$\{help_setting:([\w.]+)\}", TEXT)
    assert len(settings) == 10
    cfg = resolved(compose(*choices))
    text = shown(*choices).partition("Settings:")[2]
    for key in settings:
        assert not first_missing(cfg, key), f"{key} is not a setting"
        value = re.search(rf"^  {re.escape(key)}=(\S+)  ?", text, re.M).group(1)
        assert parse_value(value) == get_path(cfg, key)


def test_help_of_a_method_shows_its_own_settings(shown):
    assert "kd.temperature=2 kd.alpha=0.7\n" in shown()
    text = shown("kd=dkd", "student=resnet8x4")
    assert "of kd=dkd:" in text and "kd.nontarget=8" in text and "kd.alpha=" not in text.partition("Settings:")[2]
    assert "student.depth=8" in text
    assert "kd.terms=[hinton,at] kd.hard=null" in shown("kd=combine")
    assert re.search(r"of kd=supervised: +none", shown("kd=supervised"))
    assert "student.name=???" in shown("student=timm")


def test_a_dollar_sign_in_a_value_is_shown(shown):
    assert "outputs=/a/$b" in shown("outputs='/a/$b'")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command(example):
    """Each swept setting is checked at each of its values, the others at their first."""
    overrides = OverridesParser.create().parse_overrides(example.removeprefix("-m ").split())
    values = {o.key_or_group: [*o.sweep_string_iterator()] if o.is_sweep_override() else [o.value()] for o in overrides}
    assert any(len(taken) > 1 for taken in values.values()) is example.startswith("-m ")
    first = {key: taken[0] for key, taken in values.items()}
    for key, taken in values.items():
        for value in taken:
            words = [f"{name}={chosen}" for name, chosen in (first | {key: value}).items()]
            check_keys(OmegaConf.to_container(compose(*words)))


def test_there_are_six_examples():
    assert len(EXAMPLES) == 6


def test_hydra_help_works(shown):
    text = shown(flag="--hydra-help")
    assert "--cfg" in text and "hydra/launcher" in text


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('kd.run', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'wandb', 'seaborn', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["--cfg", "job"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def nodes(tree):
    for child in tree.values():
        yield from nodes(child) if isinstance(child, dict) else [child]


def test_the_store_that_hydra_copies_for_every_group_holds_nothing_of_ours():
    """Hydra copies the whole store each time it lists a group, 97 times for ``--help``: 3 s with our options in it."""
    compose()
    found = list(nodes(ConfigStore.instance().repo))
    assert found and all(isinstance(node, ConfigNode) for node in found)
    assert not [f"{node.group}/{node.name}" for node in found if node.group and node.group.split("/")[0] in GROUPS]
