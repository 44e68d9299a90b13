"""Read a yaml of a config group with its comments, which Hydra drops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.runtime.values import flatten

HEADER = re.compile(r"(\w+): (.+) \((.+) (\d{4})\), (https://\S+)\.$")  # the first comment of an option
PLAIN = re.compile(r"(\w+): (.+)\.$")  # of an option without a paper
FAMILIES = (
    *("Labels", "Logits", "Features", "Relations", "Contrastive", "Schemes"),  # in the order of the tables
    *("None", "Channel", "Spatial", "Context"),
    *("Geometry", "Crop", "Policy"),
    *("Tiny", "CIFAR", "timm"),
    *("Drawn", "Photographs", "Objects", "Clothing", "Characters", "Named", "Own"),
)
MISSING = "???"  # Hydra's mark: the command line must set it


class Paper(NamedTuple):
    title: str
    authors: str
    year: int
    link: str

    def __str__(self) -> str:
        return f"{self.title} ({self.authors} {self.year})"


class OptionFile(NamedTuple):
    """A yaml file merged with its ``defaults``; interpolations are not resolved."""

    node: dict[str, Any]
    elsewhere: dict[str, Any]
    header: list[str]
    notes: dict[str, str]
    shared: dict[str, Any] = {}  # values of the node from files of another folder


@dataclass(frozen=True)
class Entry:
    """One option of a group. ``cells`` are the columns that only this group has; ``data`` is the same for JSON."""

    name: str
    file: Path
    family: str
    comments: list[str]  # lines of the header comment
    settings: dict[str, Any]  # with their defaults
    notes: dict[str, str]  # comments of the settings
    paper: Paper | None = None
    about: str = ""  # the description of an option without a paper
    elsewhere: dict[str, Any] = field(default_factory=dict)  # set outside its group: {"train.student.epochs": 60}
    common: frozenset[str] = frozenset()  # settings that all of the group have; tables omit them
    cells: dict[str, str] = field(default_factory=dict)
    facts: dict[str, list[str]] = field(default_factory=dict)  # shown for one entry, beside the comments
    data: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""  # why there are no numbers


def entry(path: Path, option: OptionFile, **more: Any) -> Entry:
    """Return an entry from the header of an option, and ``more`` fields."""
    first = option.header[0] if option.header else ""
    cited, plain = HEADER.match(first), PLAIN.match(first)
    paper = Paper(cited[2], cited[3], int(cited[4]), cited[5]) if cited else None
    known = cited or (plain if plain and plain[1] in FAMILIES else None)
    return Entry(
        name=path.stem,
        file=path,
        family=known[1] if known else "Others",
        comments=option.header,
        notes=option.notes,
        paper=paper,
        about="" if paper else known[2] if known else first,
        elsewhere=option.elsewhere,
        **more,
    )


class Loader(yaml.SafeLoader):
    """A yaml loader that reads 1e-7 as a number, as Hydra does."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"])


def read_option(path: Path, group: str) -> OptionFile:
    """Read a yaml of a group, merged over the files that its ``defaults`` put into the same node.

    A file of package ``_global_`` has the group's node under the group's name, and may set values elsewhere.
    """
    text = path.read_text(encoding="utf-8")
    whole = yaml.load(text, Loader) or {}
    listed = whole.pop("defaults", [])
    lines = text.splitlines()
    end = next((k for k, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    package = [line for line in lines[:end] if line.startswith("# @package")]
    header = [line.removeprefix("#").removeprefix(" ") for line in lines[:end] if line and line not in package]
    notes = dict(notes_of(yaml.compose(text, Loader), lines, end))
    option = OptionFile(whole, dict(overrides(listed)), header, notes)
    if any("_global_" in line for line in package):
        notes = {name.removeprefix(f"{group}."): note for name, note in notes.items()}
        option = OptionFile(whole.pop(group, {}), {**option.elsewhere, **dict(flatten(whole))}, header, notes)
    below = OptionFile({}, {}, header, {})
    for name in [*listed, *([] if "_self_" in listed else ["_self_"])]:
        base = path if name == "_self_" else base_of(name, path)
        if base is None:
            continue
        above = option if name == "_self_" else read_option(base, group)
        shared = above.shared if base.parent == path.parent else above.node
        below = OptionFile(
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
    """Return the file that an item of a defaults list puts below this one, if there is one.

    It is a file of the same folder (``timm``), or one at the root of the configs (``/every_teacher@_here_``).
    """
    if not isinstance(item, str):
        return None
    name, _, package = item.partition("@")
    stem = name.rpartition("/")[2]
    root = name.startswith("/") and package == "_here_"
    base = path.parents[1] / f"{stem}.yaml" if root else path.with_name(f"{stem}.yaml")
    return base if base.is_file() and base != path else None


def notes_of(root: yaml.Node | None, lines: Sequence[str], start: int, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield ("train.student.epochs", its comment): after a key, above it in its column, or indented below it."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        end = key.end_mark if isinstance(value, yaml.CollectionNode) and not value.flow_style else value.end_mark
        column, above, below = key.start_mark.column, key.start_mark.line - 1, end.line + 1
        found = [lines[end.line][end.column :].removeprefix(":")] if end.line < len(lines) else []
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
    """Return the settings of a node that the command line may set: ``{"wrap.ratio": 0.0625, "stages": None}``."""
    return {name: value for name, value in flatten(node) if not name.rpartition(".")[2].startswith("_")}
