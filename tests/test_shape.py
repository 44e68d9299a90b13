"""The shape of the project: packages and floors, who may import whom, and that yaml and signature agree."""

from __future__ import annotations

import ast
import inspect
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from kd.config.checks import check_keys, check_values
from tests.conftest import CONF, compose, options

KD = Path(__file__).parents[1] / "kd"
FILES = sorted(KD.rglob("*.py"))
DOORS = {"__init__", "run", "dashboard", "chaos", "interfaces", "build"}  # the files at the top of kd/
FLOORS = (  # each imports from floors below it, and from its own package
    {"run", "chaos", "dashboard", "bench", "predict", "export"},
    {"sweep"},
    {"pipeline", "zoo"},
    {"build", "inference"},
    {"teachers", "train", "report"},
    {"diagnose"},
    {"evaluation", "tracking"},
    {"data", "records"},
    {"augment", "methods", "models", "attention", "config", "store"},
    {"interfaces", "runtime"},
)
ONLY = {  # library -> the packages and files that know it
    "hydra": {"run", "sweep", "config", "build"},
    "omegaconf": {"run", "sweep", "config", "build"},  # no DictConfig is made below
    "wandb": {"tracking"},
    "wandb_workspaces": {"tracking.workspace"},
    "seaborn": {"report.figures"},
    "difflib": {"runtime.text"},  # one "did you mean" for all
    "matplotlib": {"report.figures"},
    "onnx": {"export", "predict"},
    "onnxruntime": {"export", "predict"},
    "onnxscript": {"export", "predict"},
}
LONGEST = 400  # lines of a file


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "kd":
            names |= {f"kd.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(KD).with_suffix("").parts).removesuffix(".__init__")


def floor(package: str) -> int:
    return next(number for number, packages in enumerate(FLOORS) if package in packages)


def in_kd(path):
    return str(path.relative_to(KD))


@pytest.mark.parametrize("path", FILES, ids=in_kd)
def test_each_library_is_known_to_few(path):
    for library, owners in ONLY.items():
        uses = any(name.split(".")[0] == library for name in imports(path))
        known = any(dotted(path) == owner or dotted(path).startswith(f"{owner}.") for owner in owners)
        assert not uses or known, f"{in_kd(path)} imports {library}"


@pytest.mark.parametrize("path", [path for path in FILES if path != KD / "__init__.py"], ids=in_kd)
def test_imports_run_downward(path):
    package = dotted(path).split(".")[0]
    for name in imports(path):
        if name.startswith("kd.") and (other := name.split(".")[1]) not in (package, "__version__"):
            assert floor(other) > floor(package), f"{in_kd(path)} imports {name}, which is not below it"


@pytest.mark.parametrize("leaf", ["augment", "methods", "attention", "data"])
def test_leaves_know_nothing_of_each_other(leaf):
    """They lie on floors above what they must not import: ``kd.data`` reads images and knows no network."""
    allowed = ("kd.interfaces", "kd.runtime", "kd.store", "kd.augment", f"kd.{leaf}")
    for path in (KD / leaf).rglob("*.py"):
        ours = {name for name in imports(path) if name.startswith("kd.")}
        assert all(name.startswith(tuple(f"{one}." for one in allowed)) or name in allowed for name in ours), path.name


def test_there_is_no_import_circle():
    known = {dotted(path): path for path in FILES}
    graph = {
        name: {
            other
            for found in imports(path)
            if found.startswith("kd.") and (other := found.removeprefix("kd.")) in known and other != name
        }
        for name, path in known.items()
    }
    graph["config.initialize"].discard("config.register")  # when it is called
    graph["report.sweep.test_sets"].discard("report.sweep.aggregate")  # for a type alone
    list(TopologicalSorter(graph).static_order())


# a file of kd/pipeline imports those before it: a run is read in one direction
PIPELINE = (
    "keys",
    "precision",
    "preflight",
    "stage",
    "plan",
    "describe",
    "distill",
    "together",
    "batch_size",
    "prepare",
    "tryout",
    "results",
    "execute",
)


@pytest.mark.parametrize("name", PIPELINE)
def test_the_pipeline_is_read_in_one_direction(name):
    ours = {found.rpartition(".")[2] for found in imports(KD / "pipeline" / f"{name}.py") if "kd.pipeline." in found}
    assert ours <= set(PIPELINE[: PIPELINE.index(name)])
    assert {path.stem for path in (KD / "pipeline").glob("*.py")} == {"__init__", *PIPELINE}


def test_the_config_package_never_imports_torch():
    for path in (KD / "config").glob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "torchvision", "timm")}, path.name


def test_few_files_lie_at_the_top_and_none_is_long():
    assert {path.stem for path in KD.glob("*.py")} <= DOORS
    assert len(list(KD.glob("*.py"))) <= 8
    long = {in_kd(path): lines for path in FILES if (lines := len(path.read_text().splitlines())) > LONGEST}
    assert not long


def test_tests_mirror_the_packages():
    packages = {path.name for path in KD.iterdir() if (path / "__init__.py").is_file()}
    ours = {path.name for path in Path(__file__).parent.iterdir() if any(path.glob("test_*.py"))}
    assert ours - {"cluster", "gpu"} <= packages
    assert packages <= ours


NETWORK = {"num_classes", "image_size"}
GIVEN = {
    "data": {"store", "size"},
    "teacher": NETWORK,
    "student": NETWORK,
    "attention": {"stage", "channels"},
}  # by the caller


BESIDE = {
    "data": {"balance", "image_size", "stored_size", "fit", "crop_pct", "unlabelled", "labelled"}
}  # in a config option, read by the program: conf/config.yaml


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
    "data=imagenet": "data.root=.",
    "data=oracle_mnist": "data.root=.",
}
SIGNED = ("data", "augment", "attention", "teacher", "student", "kd", "train")


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
