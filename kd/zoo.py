"""What there is to choose from: ``python -m kd.zoo methods``, ``python -m kd.zoo methods dkd``.

All of it is read from the yaml files of the config groups and from the classes they name, so a new file is listed by
being there. Importing the classes imports torch: an answer takes about two seconds.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.interfaces import LOGITS_ONLY
from kd.options import conf_dir
from kd.tables import escape

WIDTH = 120
HEADER = re.compile(r"(\w+): (.+) \((.+) (\d{4})\), (https://\S+)\.$")  # the first comment of a method's page
FAMILIES = ("Labels", "Logits", "Features", "Relations", "Contrastive", "Schemes")
SHOWN = ("logits", "embedding", "features", "class_maps")  # of ``Outputs``, as a teacher shows them

NO_SETTINGS = {"terms", "weights", "schedule"}


class Paper(NamedTuple):
    title: str
    authors: str
    year: int
    link: str

    def __str__(self) -> str:
        return f"{self.title} ({self.authors} {self.year})"


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
    elsewhere: dict[str, Any] = field(default_factory=dict)  # set outside its group: {"train.student.epochs": 60}
    cells: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)  # what it is made of, a line each
    data: dict[str, Any] = field(default_factory=dict)


class Page(NamedTuple):
    """A yaml file with what its ``defaults`` bring; interpolations are as they are written."""

    node: dict[str, Any]
    elsewhere: dict[str, Any]
    header: list[str]
    notes: dict[str, str]


class Group(NamedTuple):
    folder: str  # in conf/
    noun: str
    about: str
    legend: str  # below the table
    entry: Callable[[Path], Entry]


class Loader(yaml.SafeLoader):
    """Reads 1e-7 as a number, as Hydra does."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"])


def read_page(path: Path, group: str) -> Page:
    """Read a yaml of a group, and below it what its ``defaults`` take from the same folder.

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
    page = Page(whole, {}, header, notes)
    if any("_global_" in line for line in package):
        notes = {name.removeprefix(f"{group}."): note for name, note in notes.items()}
        page = Page(whole.pop(group, {}), dict(flat(whole)), header, notes)
    below = Page({}, {}, header, {})
    for name in [*listed, *([] if "_self_" in listed else ["_self_"])]:
        above = page if name == "_self_" else read_base(name, path, group)
        if above:
            node, notes = merged(below.node, above.node), {**below.notes, **above.notes}
            below = Page(node, {**below.elsewhere, **above.elsewhere}, header, notes)
    return below


def read_base(name: Any, path: Path, group: str) -> Page | None:
    """Return the page that an item of a defaults list names, if it is one of the same folder."""
    stem = name.partition("@")[0].rpartition("/")[2] if isinstance(name, str) else ""
    base = path.with_name(f"{stem}.yaml")
    return read_page(base, group) if base.is_file() and base != path else None


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


def flat(node: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``("train.student.epochs", 60)`` of every leaf."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def method(path: Path) -> Entry:
    """A method of distillation, from its page in conf/kd.

    Raises:
        ValueError, ImportError, AttributeError: a class that there is not, or one that does not say what it reads.
    """
    page = read_page(path, "kd")
    terms, weights = page.node.get("terms") or {}, page.node.get("weights") or {}
    if isinstance(terms, list):  # a page that combines methods by their names
        listed = [method(path.with_name(f"{name}.yaml")) for name in terms]
        needs = {name for entry in listed for name in entry.data["reads"]}
        parts, named_terms = [part for entry in listed for part in entry.parts], {e.name: e.name for e in listed}
    else:  # as in the objective: what weighs nothing is left out, and reads nothing
        asked = (term for name, term in terms.items() if number(weights.get(name), page.node) != 0)
        needs = set().union(*map(needs_of, asked))
        parts = [f"{spoken(weights.get(name))} × {name}: {named(term)}" for name, term in terms.items()]
        named_terms = {name: named(term) for name, term in terms.items()}
    reads = [name for name in SHOWN if name in needs]
    bank = needs <= LOGITS_ONLY if needs else None
    match = HEADER.match(page.header[0]) if page.header else None
    return Entry(
        name=path.stem,
        file=path,
        family=match[1] if match else "Others",
        comments=page.header,
        settings={key: value for key, value in page.node.items() if key not in NO_SETTINGS},
        notes=page.notes,
        paper=Paper(match[2], match[3], int(match[4]), match[5]) if match else None,
        elsewhere=page.elsewhere,
        cells={"reads": ", ".join(reads) or "nothing", "bank": {True: "yes", False: "no", None: "–"}[bank]},
        parts=parts,
        data={"reads": reads, "bank": bank, "terms": named_terms},
    )


def needs_of(node: Any) -> set[str]:
    """What a term reads: its class says so, or, of a term around others, theirs do."""
    if isinstance(node, dict) and "_target_" in node:
        module, _, name = node["_target_"].rpartition(".")
        found = getattr(getattr(importlib.import_module(module), name), "needs", None)
        if isinstance(found, frozenset):
            return set(found)
        inside = [value for value in node.values() if isinstance(value, dict | list)]
        if not inside:
            raise ValueError(f"{node['_target_']} does not say what it reads: a class attribute `needs`, a frozenset")
        return needs_of(inside)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(needs_of, children))


def number(value: Any, node: Mapping[str, Any]) -> Any:
    """A weight as the defaults have it; what is more than a setting, or one minus it, stays as it is."""
    match = re.fullmatch(r"\$\{(?P<rest>one_minus:\$\{)?\.\.(?P<name>\w+)\}+", str(value))
    if not match or not isinstance(node.get(match["name"]), int | float):
        return value
    return 1 - node[match["name"]] if match["rest"] else node[match["name"]]


def spoken(weight: Any) -> str:
    """``${one_minus:${..alpha}}`` as (1 - alpha)."""
    text = re.sub(r"\$\{\.+(\w+)\}", r"\1", str(weight))
    return re.sub(r"\$\{one_minus:(\w+)\}", r"(1 - \1)", text)


def named(node: Any) -> str:
    return str(node.get("_target_", "?")) if isinstance(node, dict) else "?"


GROUPS = {
    "methods": Group(
        "kd",
        "method",
        "what the student learns from: kd=NAME",
        "reads: what a method asks of the teacher. bank: whether its answers may be written down once, and looked up.\n"
        "python -m kd.run kd=NAME kd.SETTING=VALUE takes one, kd=combine kd.terms=[NAME,NAME] several at once;\n"
        "python -m kd.zoo methods NAME says what one costs and what its settings mean.",
        method,
    ),
}


def entries(group: Group, folder: Path, name: str | None = None) -> tuple[list[Entry], list[str]]:
    """Return what a group offers, sorted by family and name, and a sentence for each page that cannot be read.

    Raises:
        ValueError: a name that there is not.
    """
    pages = {path.stem: path for path in sorted((folder / group.folder).glob("*.yaml"))}
    if name is not None:
        pages = {name: pages[known(name, pages, group.noun)]}
    found, wrong = [], []
    for path in pages.values():
        try:
            found.append(group.entry(path))
        except (yaml.YAMLError, ImportError, AttributeError, ValueError) as error:
            wrong.append(f"{path}: {error}")
    order = {family: place for place, family in enumerate(FAMILIES)}
    return sorted(found, key=lambda entry: (order.get(entry.family, len(order)), entry.family, entry.name)), wrong


def known(name: str, names: Sequence[str] | Mapping[str, Any], noun: str) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        ValueError: with the nearest.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise ValueError(f"there is no {noun} {name!r}; {hint}")


def written(value: Any) -> str:
    """A value as the command line takes it: true, null, [-2,-1], [{student:tiny_cnn,width:3}]."""
    if isinstance(value, str) and "${" in value:
        return value
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]
    return text.replace(", ", ",").replace(": ", ":") if isinstance(value, list | dict) else text


def choices(entry: Entry) -> list[str]:
    """Settings and what is set elsewhere, ``name=default``; without those that follow from others."""
    free = [(key, value) for key, value in entry.settings.items() if "${" not in str(value)]
    return [f"{key}={written(value)}" for key, value in (*free, *entry.elsewhere.items())]


def terminal(found: Sequence[Entry], noun: str) -> str:
    """The table, 120 columns wide, with a line for each family."""
    extra = list(found[0].cells)
    names = [noun, *extra, "settings and defaults", "paper"]
    widths = [max(len(entry.name) for entry in found) + 2]
    widths += [max(len(cell), *(max(map(len, e.cells[cell].split())) for e in found)) for cell in extra]
    rest = WIDTH - sum(widths) - 2 * len(names) + 2
    longest = max((len(choice) for entry in found for choice in choices(entry)), default=0)
    settings = min(max(longest, rest // 2 - 1), 2 * rest // 3)
    widths += [settings, rest - settings]
    rule = "─" * WIDTH
    lines = [rule, *row([[name] for name in names], widths), rule]
    family = None
    for entry in found:
        if entry.family != family:
            family = entry.family
            lines += [] if lines[-1] == rule else [""]
            lines.append(family)
        cells = [[f"  {entry.name}"]]
        cells += [wrapped(entry.cells[name], width) for name, width in zip(extra, widths[1:], strict=False)]
        paper = [*wrapped(str(entry.paper), widths[-1]), entry.paper.link] if entry.paper else entry.comments[:1]
        lines += row([*cells, packed(choices(entry), widths[-2]), paper], widths)
    return "\n".join([*lines, rule])


def wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def packed(words: Sequence[str], width: int) -> list[str]:
    """As many words a line as fit, two spaces apart; a longer word is cut."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines += textwrap.wrap(word, width)
    return lines


def row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for level in range(max(map(len, cells))):
        parts = [cell[level] if level < len(cell) else "" for cell in cells]
        yield "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()


def markdown(found: Sequence[Entry], noun: str) -> str:
    """The table for a page: papers are links, settings code."""
    extra = list(found[0].cells)
    lines = [["family", noun, *extra, "settings and defaults", "paper"]]
    lines.append([":--"] * len(lines[0]))
    for entry in found:
        paper = entry.paper
        link = f"[{escape(paper.title)}]({paper.link}), {escape(paper.authors)} {paper.year}" if paper else ""
        settings = " ".join(f"`{choice}`" for choice in choices(entry)).replace("|", r"\|")
        cells = [escape(entry.cells[cell]) for cell in extra]
        lines.append([entry.family, f"`{entry.name}`", *cells, settings, link])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def whole_page(entry: Entry, group: Group) -> str:
    """All that the page of one option says."""
    near = entry.file.is_relative_to(Path.cwd())
    file = entry.file.relative_to(Path.cwd()) if near else entry.file
    lines = [entry.name, "─" * WIDTH, *entry.comments, "", f"file      {file}"]
    lines += [f"{name:<8}  {value}" for name, value in entry.cells.items()]
    lines += [f"{'loss' if k == 0 else '':<8}  {part}" for k, part in enumerate(entry.parts)]
    rows = [
        (f"{group.folder}.{key}", written(value), entry.notes.get(key, "")) for key, value in entry.settings.items()
    ]
    rows += [(key, written(value), entry.notes.get(key, "")) for key, value in entry.elsewhere.items()]
    if rows:
        widths = [max(len(cells[k]) for cells in (("setting", "default"), *rows)) for k in (0, 1)]
        widths.append(max(WIDTH - sum(widths) - 4, 30))
        lines += ["", *row([["setting"], ["default"], []], widths), "─" * WIDTH]
        for name, value, note in rows:
            lines += row([[name], [value], wrapped(note, widths[-1])], widths)
    return "\n".join([*lines, "", f"python -m kd.run {group.folder}={entry.name}"])


def plain(entry: Entry) -> dict[str, Any]:
    """An entry for programs."""
    return {
        "name": entry.name,
        "family": entry.family,
        **entry.data,
        "settings": entry.settings,
        "elsewhere": entry.elsewhere,
        "notes": {key: note for key, note in entry.notes.items() if key in {**entry.settings, **entry.elsewhere}},
        "paper": entry.paper._asdict() if entry.paper else None,
        "comments": entry.comments,
        "file": str(entry.file),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2: a name that there is not. 1: a page that cannot be read, beside those that can."""
    parser = argparse.ArgumentParser(
        prog="python -m kd.zoo",
        description="What there is to choose from, read from the configs themselves.",
        epilog="groups: " + "; ".join(f"{name} ({group.about})" for name, group in GROUPS.items()),
    )
    parser.add_argument("group", nargs="?", help="what to list; without it, the groups")
    parser.add_argument("name", nargs="?", help="one of the group: all that its page says")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--markdown", action="store_true", help="a markdown table, for a page")
    style.add_argument("--json", action="store_true", help="for programs, with every comment")
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets "?" for a rule, not a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    folder = Path(conf_dir())
    if given.group is None:
        for name, group in GROUPS.items():
            print(f"{name:<12}{len(list((folder / group.folder).glob('*.yaml'))):>4}  {group.about}")
        print("\npython -m kd.zoo GROUP lists one.")
        return 0
    try:
        group = GROUPS[known(given.group, GROUPS, "group")]
        found, wrong = entries(group, folder, given.name)
    except ValueError as error:
        print(f"kd.zoo: {error}", file=sys.stderr)
        return 2
    if given.json:
        made = [plain(entry) for entry in found]
        print(json.dumps(made[0] if given.name and made else made, indent=2, ensure_ascii=False))
    elif found and given.markdown:
        print(markdown(found, group.noun))
    elif found and given.name:
        print(whole_page(found[0], group))
    elif found:
        print(terminal(found, group.noun), group.legend, sep="\n")
    for line in wrong:
        print(f"kd.zoo: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
