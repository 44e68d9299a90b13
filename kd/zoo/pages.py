"""A yaml of a config group, read with its comments; Hydra would drop those."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.runtime.values import flatten

HEADER = re.compile(r"(\w+): (.+) \((.+) (\d{4})\), (https://\S+)\.$")  # the first comment of a page
PLAIN = re.compile(r"(\w+): (.+)\.$")  # and where there is no paper
FAMILIES = (
    *("Labels", "Logits", "Features", "Relations", "Contrastive", "Schemes"),  # in the order of the tables
    *("None", "Channel", "Spatial", "Context"),
    *("Tiny", "CIFAR", "timm"),
    *("Drawn", "Photographs", "Objects", "Clothing", "Characters", "Own"),
)
MISSING = "???"  # Hydra's: the command line must say it


class Paper(NamedTuple):
    title: str
    authors: str
    year: int
    link: str

    def __str__(self) -> str:
        return f"{self.title} ({self.authors} {self.year})"


class Page(NamedTuple):
    """A yaml file with what its ``defaults`` bring; interpolations are as they are written."""

    node: dict[str, Any]
    elsewhere: dict[str, Any]
    header: list[str]
    notes: dict[str, str]
    shared: dict[str, Any] = {}  # of the node, what pages of another folder set


@dataclass(frozen=True)
class Entry:
    """One option of a group. ``cells`` are the columns that only this group has; ``data`` is the same for programs."""

    name: str
    file: Path
    family: str
    comments: list[str]  # the page's own words, line by line
    settings: dict[str, Any]  # with their defaults
    notes: dict[str, str]  # what the page says of a setting
    paper: Paper | None = None
    about: str = ""  # what it is, where there is no paper
    elsewhere: dict[str, Any] = field(default_factory=dict)  # set outside its group: {"train.student.epochs": 60}
    common: frozenset[str] = frozenset()  # settings that all of the group have: the tables leave them out
    cells: dict[str, str] = field(default_factory=dict)
    facts: dict[str, list[str]] = field(default_factory=dict)  # what its page shows beside the comments
    data: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""  # why there are no numbers


def entry(path: Path, page: Page, **more: Any) -> Entry:
    """What every page says in its header, and ``more``."""
    first = page.header[0] if page.header else ""
    cited, plain = HEADER.match(first), PLAIN.match(first)
    paper = Paper(cited[2], cited[3], int(cited[4]), cited[5]) if cited else None
    known = cited or (plain if plain and plain[1] in FAMILIES else None)
    return Entry(
        name=path.stem,
        file=path,
        family=known[1] if known else "Others",
        comments=page.header,
        notes=page.notes,
        paper=paper,
        about="" if paper else known[2] if known else first,
        elsewhere=page.elsewhere,
        **more,
    )


class Loader(yaml.SafeLoader):
    """Reads 1e-7 as a number, as Hydra does."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"])


def read_page(path: Path, group: str) -> Page:
    """Read a yaml of a group, and below it what its ``defaults`` take into the same place.

    A page of package ``_global_`` has the group's node under the group's name and may set what is elsewhere.
    """
    text = path.read_text(encoding="utf-8")
    whole = yaml.load(text, Loader) or {}
    listed = whole.pop("defaults", [])
    lines = text.splitlines()
    end = next((k for k, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    package = [line for line in lines[:end] if line.startswith("# @package")]
    header = [line.removeprefix("#").removeprefix(" ") for line in lines[:end] if line and line not in package]
    notes = dict(notes_of(yaml.compose(text, Loader), lines, end))
    page = Page(whole, dict(overrides(listed)), header, notes)
    if any("_global_" in line for line in package):
        notes = {name.removeprefix(f"{group}."): note for name, note in notes.items()}
        page = Page(whole.pop(group, {}), {**page.elsewhere, **dict(flatten(whole))}, header, notes)
    below = Page({}, {}, header, {})
    for name in [*listed, *([] if "_self_" in listed else ["_self_"])]:
        base = path if name == "_self_" else base_of(name, path)
        if base is None:
            continue
        above = page if name == "_self_" else read_page(base, group)
        shared = above.shared if base.parent == path.parent else above.node
        below = Page(
            merged(below.node, above.node),
            {**below.elsewhere, **above.elsewhere},
            header,
            {**below.notes, **above.notes},
            merged(below.shared, shared),
        )
    return below


def overrides(listed: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield ("attention", "vea") of ``override /attention@_global_.attention: vea`` in a defaults list."""
    for item in listed:
        for name, value in item.items() if isinstance(item, dict) else ():
            if match := re.match(r"override\s+/([\w/]+)", name):
                yield match[1], value


def base_of(item: Any, path: Path) -> Path | None:
    """Return the file that an item of a defaults list puts below the page, if there is one.

    Such are a page of the same folder (``timm``) and one at the root of the configs (``/every_teacher@_here_``).
    """
    if not isinstance(item, str):
        return None
    name, _, package = item.partition("@")
    stem = name.rpartition("/")[2]
    root = name.startswith("/") and package == "_here_"
    base = path.parents[1] / f"{stem}.yaml" if root else path.with_name(f"{stem}.yaml")
    return base if base.is_file() and base != path else None


def notes_of(root: yaml.Node | None, lines: Sequence[str], start: int, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield ("train.student.epochs", its comment): behind a key, above it in its column, or further in below it."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        behind = key.end_mark if isinstance(value, yaml.CollectionNode) and not value.flow_style else value.end_mark
        column, above, below = key.start_mark.column, key.start_mark.line - 1, behind.line + 1
        found = [lines[behind.line][behind.column :].removeprefix(":")] if behind.line < len(lines) else []
        while above >= start and re.match(rf" {{{column}}}# ", lines[above]):
            found.insert(0, lines[above])
            above -= 1
        while below < len(lines) and re.match(rf" {{{column + 1},}}# ", lines[below]):
            found.append(lines[below])
            below += 1
        texts = [line.strip().removeprefix("#").strip() for line in found if line.strip().startswith("#")]
        if texts:
            yield f"{place}{key.value}", " ".join(texts)
        yield from notes_of(value, lines, start, f"{place}{key.value}.")


def merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def settings_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line may set of a node of classes: ``{"wrap.ratio": 0.0625, "stages": None}``."""
    return {name: value for name, value in flatten(node) if not name.rpartition(".")[2].startswith("_")}
