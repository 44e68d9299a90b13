"""Arguments arrive as typed: homes, letters of any script, signs that Hydra's grammar does not know."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kd.config.command_line import (
    as_argument,
    as_value,
    expand_home,
    expand_homes,
    hydra_arguments,
    parsed,
    quote_override,
    trim_text,
)
from kd.config.paths import conf_dir
from tests import quickly
from tests.conftest import CONF
from tests.pipeline.test_run import SMALL

HOME = "/home/some body"


@pytest.fixture(scope="module", autouse=True)
def home():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", HOME)
        yield


@pytest.mark.parametrize(
    ("typed", "value"),
    {
        "data.root=~/images": f"{HOME}/images",
        "outputs=~": HOME,
        "data.root=~root/x": f"{os.path.expanduser('~root')}/x",
        "data.root=~nobody_of_that_name/x": "~nobody_of_that_name/x",
        "teacher.ensemble=[{teacher:tiny_cnn,checkpoint:~/a.pt},resnet18]": [
            {"teacher": "tiny_cnn", "checkpoint": f"{HOME}/a.pt"},
            "resnet18",
        ],
        "hydra.searchpath=[file://~/conf]": [f"file://{HOME}/conf"],
        "hydra.sweeper.storage=sqlite:///~/study.db": f"sqlite:///{HOME}/study.db",
        "data.root=图片": "图片",
        "+data.root= a\\,b/été ": "a,b/été",
        "data.root=/x/lr=0.1/y": "/x/lr=0.1/y",
        "data.root=#1": "#1",
        "data.root=${oc.env:HOME}/é": "${oc.env:HOME}/é",
        "tracking.tags=[été, b c, 'd, e']": ["été", "b c", "d, e"],
        "data.root=C:\\ä\\b": "C:\\ä\\b",
    }.items(),
)
def test_what_can_only_be_text_is_read_as_such(typed, value):
    assert parsed(typed) is None, "Hydra alone cannot read it"
    assert parsed(quote_override(typed)).value() == value


def test_the_values_of_a_sweep_are_read_one_by_one():
    (line,) = hydra_arguments(["data.root=~/a,/b,choice"])
    assert [*parsed(line).sweep_string_iterator()] == [f'"{HOME}/a"', "/b", "choice"]
    for typed in ("data.root=choice(~/a, é)", f"data.root=choice('{HOME}/a', 'é')"):
        (line,) = hydra_arguments([typed])
        cells = [*parsed(line).sweep_string_iterator()]
        assert [parsed(f"data.root={cell}").value() for cell in cells] == [f"{HOME}/a", "é"]


def test_options_that_name_a_folder_take_a_home_and_deletions_are_none():
    typed = ["-cd", "~/a", "--config-dir=~/b", "~kd", "-m", "~root/kd", "--info", "x='~'"]
    assert hydra_arguments(typed) == ["-cd", f"{HOME}/a", f"--config-dir={HOME}/b", *typed[3:]]


@given(st.text(max_size=12))
@example("{a:~/x}")
@example("'~/x")
@example("a\\")
@example("\\" * 60 + "é")  # takes exponential time if a sign matches in two ways
def test_what_hydra_can_read_is_left_alone_and_what_it_cannot_has_an_argument(value):
    override = f"data.root={value}"
    if parsed(override):
        assert hydra_arguments([override]) == [override]
    if "\0" not in value:
        (argument,) = shlex.split(as_argument(override))
        assert parsed(argument).value() == parsed(f"data.root={as_value(value)}").value() == value


def test_a_dropped_blank_is_reported_with_what_keeps_it():
    typed = ["data.root=/a b ", "data.root=é ", "data.root=~/a,b ", "seed=3 ", "outputs=/a\\ ", "kd=hinton", "-m"]
    messages = [*trim_text(typed, hydra_arguments(typed))]
    assert (
        len(messages) == 2
        and """'data.root="/a b "' keeps it""" in messages[0]
        and """'data.root="é "'""" in messages[1]
    )


@pytest.mark.parametrize("text", ["~/x", "~", "~/", "x~/y", "file:~/x", "http://~/x"])
def test_a_home_is_what_a_shell_takes_for_one(text):
    assert expand_home(text) == (text.replace("~", HOME) if text.startswith("~") else text)


def test_the_configs_may_lie_at_home(monkeypatch, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KD_CONF_DIR", "~/conf")
    assert conf_dir() == str((tmp_path / "conf").resolve())


def test_hydra_makes_no_folder_with_the_name_of_a_home(monkeypatch):
    monkeypatch.setenv("KD_OUTPUTS", "~/o")
    places = ["hydra.run.dir='~/r'", "hydra.sweep.dir='~/s'", "+hydra.launcher.submitit_folder='~/logs/%j'"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose("config", [*places, "seed=3"], return_hydra_config=True)
    config.hydra.sweeper.params = {"data.root": "~/a,/b", "seed": "1,2"}
    expand_homes(config)
    assert [config.outputs, config.hydra.run.dir, config.hydra.sweep.dir] == [f"{HOME}/{name}" for name in "ors"]
    assert config.hydra.launcher.submitit_folder == f"{HOME}/logs/%j"
    assert config.hydra.sweeper.params == {"data.root": f'"{HOME}/a",/b', "seed": "1,2"}
    assert config.hydra.runtime.cwd != "~" and config.seed == 3


QUICK = [*SMALL, "teacher=tiny_cnn", "teacher.width=1", "tracking=disabled", "report=false"]


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory):
    """A run with all paths in the home folder, typed with ``~`` that no shell has expanded."""
    home, cwd = tmp_path_factory.mktemp("at home"), tmp_path_factory.mktemp("elsewhere")
    option = home / "mine" / "experiment" / "mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(
        "# @package _global_\nhydra: {sweeper: {params: {teacher.seed: '0,1'}}}\noutputs: ~/of an option\n"
    )
    env = os.environ | {"HOME": str(home), "KD_OUTPUTS": "~/o", "PYTHONPATH": str(CONF.parent)}

    def typed(*arguments: str, module: str = "kd.run"):
        done = quickly.run(module, *arguments, cwd=cwd, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not list(cwd.iterdir()), "something was written where the command was typed"
        return done

    typed(*QUICK)
    (teacher,) = (home / "o" / "teachers").glob("*/network.safetensors")
    return home, typed, f"~/{teacher.relative_to(home)}"


def test_outputs_of_the_environment(lived_in):
    home, typed, _ = lived_in
    (run,) = (home / "o" / "runs").iterdir()
    assert (run / "result.json").is_file()
    typed(f"~/o/runs/{run.name}", module="kd.report")
    assert (run / "report.md").is_file()


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_folder_and_a_checkpoint_that_are_typed(lived_in, quote):
    home, typed, checkpoint = lived_in
    teacher = f"teacher.checkpoint={quote}{checkpoint}{quote}"
    own = f"mine{'_quoted' * bool(quote)}"
    typed(*QUICK, teacher, f"hydra.run.dir={quote}~/{own}{quote}", f"outputs={quote}~/o{quote}")
    assert (home / own / "result.json").is_file()
    settings = OmegaConf.load(home / own / "config.yaml")
    assert Path(settings.outputs) == home / "o"


def test_a_sweep_of_an_experiment_at_home(lived_in):
    home, typed, _ = lived_in
    typed("-m", "--config-dir=~/mine", "experiment=mine", "hydra.sweep.dir=~/été", *QUICK, "baseline=false")
    assert len(list((home / "of an option" / "runs").iterdir())) == 2 and (home / "été" / "report.html").is_file()
