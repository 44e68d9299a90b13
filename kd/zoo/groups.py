"""The groups, and what each offers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.runtime.text import did_you_mean
from kd.zoo.counting import Case
from kd.zoo.data import dataset, facts_of, number
from kd.zoo.methods import method
from kd.zoo.networks import attention, student, teacher
from kd.zoo.pages import FAMILIES, Entry, Loader, read_page


class Group(NamedTuple):
    folder: str  # in conf/
    noun: str
    about: str
    legend: str  # below the table
    entry: Callable[[Path, Case], Entry]
    source: str = "source"  # heading of the last column
    takes: tuple[str, ...] = ()  # which of the command's options its numbers depend on
    also: str = ""  # the folder of pages that are options of this group too; they are listed in their own


NUMBERS = (
    "At {image_size} x {image_size} pixels and {num_classes} classes (--size, --classes), M for millions.\n"
    "MACs: multiply-accumulates of convolutions and matrix products, an image."
)
LIVE = "live: parameters that the logits depend on.\nembedding: channels that the classifier reads."

GROUPS = {
    "attentions": Group(
        "attention",
        "attention",
        "what looks at a teacher's maps: attention=NAME",
        "What each adds to {backbone} (--backbone: a teacher, a student or any name of timm).\n"
        f"{NUMBERS}\n"
        "python -m kd.run attention=NAME attention.stages=[1,2] puts one on the teacher, whichever it is;\n"
        "python -m kd.zoo attentions NAME says what one costs and what its settings mean.",
        attention,
        takes=("size", "classes", "backbone"),
    ),
    "teachers": Group(
        "teacher",
        "teacher",
        "who teaches: teacher=NAME",
        f"{NUMBERS} {LIVE} published: with what the published class carries\n"
        "beside them. ???: the command line must say it.\n"
        "python -m kd.run teacher=NAME takes one, with any attention=NAME; every student is a teacher too, by its\n"
        "own name: teacher=resnet56. python -m kd.zoo teachers NAME says what one costs and what its settings mean.",
        teacher,
        takes=("size", "classes"),
        also="student",
    ),
    "students": Group(
        "student",
        "student",
        "who learns: student=NAME",
        f"{NUMBERS} {LIVE}\n"
        "python -m kd.run student=NAME student.SETTING=VALUE takes one, teacher=NAME the same as a teacher;\n"
        "python -m kd.zoo students NAME says what one costs and what its settings mean.",
        student,
        takes=("size", "classes"),
    ),
    "data": Group(
        "data",
        "data set",
        "what there is to learn: data=NAME",
        "Pixels as published; data.image_size says what they are resampled to. python -m kd.run data=NAME takes one;\n"
        "python -m kd.zoo data NAME says where it comes from, what to expect, and what data.augment does.",
        dataset,
    ),
    "methods": Group(
        "kd",
        "method",
        "what the student learns from: kd=NAME",
        "reads: what a method asks of the teacher. cached: whether the teacher's logits can be cached.\n"
        "python -m kd.run kd=NAME kd.SETTING=VALUE takes one, kd=combine kd.terms=[NAME,NAME] several at once;\n"
        "python -m kd.zoo methods NAME says what one costs and what its settings mean.",
        method,
        source="paper",
    ),
}


def entries(
    group: Group, folder: Path, name: str | None = None, case: Case | None = None
) -> tuple[list[Entry], list[str]]:
    """Return what a group offers, sorted by family and name, and a sentence for each page that cannot be read.

    Args:
        folder: of the configs. name: the only one wanted. case: what numbers are for, if not the default data set.

    Raises:
        ValueError: a name that there is not.
    """
    pages = pages_of(group, folder)
    if name is not None:
        more = {path.stem: path for path in (folder / group.also).glob("*.yaml")} if group.also else {}
        pages = more | pages
        pages = {name: pages[known(name, pages, group.noun)]}
    case, found, wrong = case or default_case(folder), [], []
    for path in pages.values():
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


def pages_of(group: Group, folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((folder / group.folder).glob("*.yaml"))}


def natural(name: str) -> list[Any]:
    """resnet8, resnet20, resnet110."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def default_case(folder: Path) -> Case:
    """Pixels and classes of the default data set, where the configs say so."""
    root = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader) or {}
    name = next((item["data"] for item in root.get("defaults", []) if isinstance(item, dict) and "data" in item), "")
    path = folder / "data" / f"{name}.yaml"
    if not path.is_file():
        return Case()
    page = read_page(path, "data")
    facts = facts_of(page.header)
    size, classes = page.node.get("image_size"), number(facts["classes"]) if facts else Case().num_classes
    return Case(size if isinstance(size, int) else Case().image_size, classes)


def known(name: str, names: Sequence[str] | Mapping[str, Any], noun: str) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        ValueError: with the nearest.
    """
    if name in names:
        return name
    hint = did_you_mean(name.lower(), names, cutoff=0.5) or f"; there are {', '.join(names)}"
    raise ValueError(f"there is no {noun} {name!r}{hint}")
