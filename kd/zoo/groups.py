"""The groups of the zoo, and the entries of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.runtime.text import did_you_mean
from kd.zoo.augments import augment
from kd.zoo.counting import Case
from kd.zoo.data import dataset, facts_of, number
from kd.zoo.methods import method
from kd.zoo.networks import attention, student, teacher
from kd.zoo.options import FAMILIES, Entry, Loader, read_option


class Group(NamedTuple):
    folder: str  # in conf/
    noun: str
    about: str
    legend: str  # below the table
    entry: Callable[[Path, Case], Entry]
    source: str = "source"  # heading of the last column
    takes: tuple[str, ...] = ()  # the options of the command on which its numbers depend
    also: str = ""  # a folder whose files are options of this group too; they are listed in their own group


NUMBERS = (
    "At {image_size} x {image_size} pixels and {num_classes} classes (--size, --classes), M for millions.\n"
    "MACs: multiply-accumulates of convolutions and matrix products for an image."
)
LIVE = "live: parameters that the logits depend on.\nembedding: channels that the classifier reads."

GROUPS = {
    "attentions": Group(
        "attention",
        "attention",
        "layers on the stages of a teacher: attention=NAME",
        "The numbers that each adds to {backbone} (--backbone: a teacher, a student or any name of timm).\n"
        f"{NUMBERS}\n"
        "python -m kd.run attention=NAME attention.stages=[1,2] adds one to the teacher;\n"
        "python -m kd.zoo attentions NAME explains its cost and its settings.",
        attention,
        takes=("size", "classes", "backbone"),
    ),
    "teachers": Group(
        "teacher",
        "teacher",
        "networks that teach: teacher=NAME",
        f"{NUMBERS} {LIVE} published: with the unused\n"
        "parameters of the published class. ???: you must set it.\n"
        "python -m kd.run teacher=NAME uses one, with any attention=NAME; every student is a teacher too, under its\n"
        "own name: teacher=resnet56. python -m kd.zoo teachers NAME explains its cost and its settings.",
        teacher,
        takes=("size", "classes"),
        also="student",
    ),
    "students": Group(
        "student",
        "student",
        "networks that learn: student=NAME",
        f"{NUMBERS} {LIVE}\n"
        "python -m kd.run student=NAME student.SETTING=VALUE uses one, teacher=NAME the same as a teacher;\n"
        "python -m kd.zoo students NAME explains its cost and its settings.",
        student,
        takes=("size", "classes"),
    ),
    "data": Group(
        "data",
        "data set",
        "data sets: data=NAME",
        "Pixels as published; a run resamples images to data.image_size. python -m kd.run data=NAME uses one;\n"
        "python -m kd.zoo data NAME explains its source, its settings and what to expect.",
        dataset,
    ),
    "augments": Group(
        "augment",
        "augmentation",
        "how views are made of training images: augment=NAME",
        "steps: in order. A data set chooses one; python -m kd.run augment=NAME augment.SETTING=VALUE uses another;\n"
        "python -m kd.zoo augments NAME explains its cost and its settings; --figure FILE.png draws views.",
        augment,
    ),
    "methods": Group(
        "kd",
        "method",
        "distillation methods: kd=NAME",
        "year: of the paper. reads: outputs of the teacher that a method reads. cached: whether it learns from cached\n"
        "logits; – without a teacher. python -m kd.run -m 'kd=glob(*)' seed=0,1,2 compares all that fit a teacher.\n"
        "python -m kd.run kd=NAME kd.SETTING=VALUE uses one, kd=combine kd.terms=[NAME,NAME] several at once;\n"
        "python -m kd.zoo methods NAME explains its cost and its settings.",
        method,
        source="paper",
    ),
}


def entries(
    group: Group, folder: Path, name: str | None = None, case: Case | None = None
) -> tuple[list[Entry], list[str]]:
    """Return the entries of a group, sorted by family and name, and a line for each option that cannot be read.

    Args:
        folder: of the configs. name: return only this entry. case: that counts are for; None is the default data set.

    Raises:
        ValueError: an unknown name.
    """
    files = option_files(group, folder)
    if name is not None:
        more = {path.stem: path for path in (folder / group.also).glob("*.yaml")} if group.also else {}
        files = more | files
        files = {name: files[check_name(name, files, group.noun)]}
    case, found, wrong = case or default_case(folder), [], []
    for path in files.values():
        try:
            made = group.entry(path, case)
        except (yaml.YAMLError, ImportError, AttributeError, ValueError, TypeError) as error:
            wrong.append(f"{path}: {error}")
            continue
        found.append(made)
        if made.trouble:
            wrong.append(f"{path}: {made.trouble}")
    order = {family: place for place, family in enumerate(FAMILIES)}
    return sorted(found, key=lambda e: (order.get(e.family, len(order)), e.family, natural(e.name))), wrong


def option_files(group: Group, folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((folder / group.folder).glob("*.yaml"))}


def natural(name: str) -> list[Any]:
    """Return a sort key that orders names by their numbers: resnet8, resnet20, resnet110."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def default_case(folder: Path) -> Case:
    """Return the image size and the classes of the default data set, if the configs name them."""
    root = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader) or {}
    name = next((item["data"] for item in root.get("defaults", []) if isinstance(item, dict) and "data" in item), "")
    path = folder / "data" / f"{name}.yaml"
    if not path.is_file():
        return Case()
    option = read_option(path, "data")
    facts = facts_of(option.header)
    size, classes = option.node.get("image_size"), number(facts["classes"]) if facts else Case().num_classes
    return Case(size if isinstance(size, int) else Case().image_size, classes)


def check_name(name: str, names: Sequence[str] | Mapping[str, Any], noun: str) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        ValueError: it is not; names the nearest ones.
    """
    if name in names:
        return name
    hint = did_you_mean(name.lower(), names, cutoff=0.5) or f"; there are {', '.join(names)}"
    raise ValueError(f"there is no {noun} {name!r}{hint}")
