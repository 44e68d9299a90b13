"""The shape of the project: who may import whom, and that yaml and signature agree."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from kd.config.checks import check_keys, check_values
from tests.conftest import CONF, compose, options

KD = Path(__file__).parents[1] / "kd"
HYDRA = {"run.py", "multirun.py", "build.py", "sweep/", "config/"}
ONLY = {
    "hydra": HYDRA,
    "omegaconf": HYDRA,  # no DictConfig below
    "wandb": {"tracking/"},
    "wandb_workspaces": {"workspace.py"},
    "seaborn": {"figures.py"},
    "matplotlib": {"figures.py"},
    "difflib": {"text.py"},  # one "did you mean" for all
}
LEAVES = ("methods", "attention", "data")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


FILES = sorted(KD.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(KD)))
def test_each_library_is_known_to_one_file(path):
    for library, owners in ONLY.items():
        uses = any(name.split(".")[0] == library for name in imports(path))
        known = {path.name, f"{path.parent.name}/"} & owners
        assert not uses or known, f"{path.name} imports {library}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_nothing_of_each_other_or_of_what_uses_them(leaf):
    below = ("interfaces", "counter", "store", "progress", "reach", "starved", "runtime")
    allowed = {f"kd.{name}" for name in (*below, leaf)}
    for path in (KD / leaf).glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("kd.")}
        outside = {name for name in ours if not any(name == a or name.startswith(f"{a}.") for a in allowed)}
        assert not outside, f"{path.name} imports {outside}"


def test_the_entry_point_is_imported_by_nobody():
    assert not [path.name for path in FILES if "kd.run" in imports(path)]


# a file of kd/pipeline may import those before it
PIPELINE = ("keys", "preflight", "stage", "plan", "distill", "batch_size", "prepare", "results", "execute")


@pytest.mark.parametrize("name", PIPELINE)
def test_the_pipeline_is_read_in_one_direction(name):
    ours = {found.rpartition(".")[2] for found in imports(KD / "pipeline" / f"{name}.py") if "kd.pipeline." in found}
    assert ours <= set(PIPELINE[: PIPELINE.index(name)])
    assert {path.stem for path in (KD / "pipeline").glob("*.py")} == {"__init__", *PIPELINE}


NETWORK = {"num_classes", "image_size"}
GIVEN = {"data": {"store"}, "teacher": NETWORK, "student": NETWORK, "attention": {"stage", "channels"}}  # by the caller


BESIDE = {"data": {"balance"}}  # what stands in a page and is read by the program: conf/config.yaml


def targets(node, path=""):
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for name, child in node.items():
            yield from targets(child, f"{path}.{name}".strip("."))


NEEDS = {  # what the command line must say
    "teacher=timm": "teacher.name=resnet18",
    "teacher=exported": f"teacher.checkpoint={CONF / 'config.yaml'}",  # any file that is there
    "student=timm": "student.name=resnet18",
    "data=folder": "data.root=.",
    "data=oracle_mnist": "data.root=.",
}
SIGNED = ("data", "attention", "teacher", "student", "kd", "train")


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in (*SIGNED, "tracking", "experiment") for o in options(g)])
def test_every_option_resolves_and_yaml_and_signature_match_one_to_one(group, option):
    """No setting is dead: each is taken by a constructor, read by the program or referred to by one that is."""
    chosen = f"{group}={option}"
    cfg = compose(chosen, *([NEEDS[chosen]] if chosen in NEEDS else []))
    raw = OmegaConf.to_container(cfg)
    check_keys(raw)
    check_values(raw, OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    found = list(targets(raw[group])) if group in SIGNED else []
    for path, node in found:
        takes = set(inspect.signature(get_object(node["_target_"])).parameters) - GIVEN.get(group, set())
        gives = {name for name in node if not name.startswith("_")} - BESIDE.get(f"{group}{path}", set())
        assert gives == takes, f"{group}/{option}.yaml {path}: {sorted(gives ^ takes)}"
    assert found or option == "none" or group not in SIGNED
