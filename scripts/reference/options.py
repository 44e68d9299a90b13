"""The pages of what there is to choose: methods, attentions, teachers, students, data sets.

Each has the table that ``python -m kd.zoo GROUP --markdown`` prints and a section an option with all that its yaml and
the module of its class say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kd.zoo.groups import GROUPS, Group, entries, natural, pages_of
from kd.zoo.networks import UNUSED
from kd.zoo.pages import FAMILIES, Entry, entry, read_page, settings_of
from kd.zoo.tables import markdown, written
from reference.text import code, docstring, fence, prose, remarks, table

END = "<!-- end -->"
COUNTED = ("attentions", "teachers", "students")  # networks are built for their numbers, which takes seconds
HIDDEN = ("terms", "weights", "schedule", UNUSED)  # what a loss or a network is made of, not what one sets


def option_page(name: str, intro: str, root: Path, on_disk: str | None = None) -> str:
    """The page of a group.

    Args:
        name: of the group, as ``kd.zoo`` calls it. intro: what comes before the table.
        on_disk: the page as it is, to take a table from that would take seconds to count; None counts.
    """
    group, conf = GROUPS[name], root / "conf"
    found = list(_described(group, conf)) if on_disk is not None and name in COUNTED else _measured(group, conf)
    marker = f"<!-- python -m kd.zoo {name} --markdown -->"
    rows = markdown(found, group) if on_disk is None or name not in COUNTED else _between(on_disk, marker)
    parts = [intro, marker, rows, END]
    family, told = None, set()
    for each in found:
        if each.family != family:
            family = each.family
            parts.append(f"## {family}")
        parts.append(_section(each, group, root, told))
    return "\n\n".join(parts)


def _measured(group: Group, conf: Path) -> list[Entry]:
    found, wrong = entries(group, conf)
    if wrong:
        raise SystemExit("\n".join(wrong))
    return found


def _described(group: Group, conf: Path) -> Iterator[Entry]:
    """The entries in the order of the table, read and not counted."""
    found = []
    for path in pages_of(group, conf).values():
        page = read_page(path, group.folder)
        found.append(entry(path, page, settings=settings_of(page.node)))
    order = {family: place for place, family in enumerate(FAMILIES)}
    yield from sorted(found, key=lambda e: (order.get(e.family, len(order)), e.family, natural(e.name)))


def _between(text: str, marker: str) -> str:
    return text.partition(marker)[2].partition(END)[0].strip()


def _section(each: Entry, group: Group, root: Path, told: set[str]) -> str:
    """One option. ``told`` has the modules whose docstring the page already shows, and grows."""
    parts = [f"### {each.name}"]
    if each.paper:
        parts.append(f"[{prose(each.paper.title)}]({each.paper.link}), {prose(each.paper.authors)} {each.paper.year}.")
    elif each.about:
        about = prose(each.about, words=True)
        parts.append(f"{about[0].upper()}{about[1:]}".rstrip(".") + ".")
    parts.append(remarks(each.comments[1:]))
    page = read_page(each.file, group.folder)
    if group.folder == "kd":
        parts.append(_of_a_method(each))
    parts.append(_settings(each, page.node, group.folder))
    parts += [_from_the_code(module, root, each, told) for module in _modules(page.node)]
    asked = [f" {group.folder}.{key}=…" for key, value in each.settings.items() if value == "???"]
    parts.append(fence(f"python -m kd.run {group.folder}={each.name}{''.join(asked)}", "sh"))
    return "\n\n".join(filter(None, parts))


def _of_a_method(each: Entry) -> str:
    facts = [f"**{name.capitalize()}**: {prose(texts[0])}" for name, texts in each.facts.items() if name in each.cells]
    loss = [f"- {prose(term.rpartition(': ')[0])}: {code(term.rpartition(': ')[2])}" for term in each.facts["loss"]]
    return "; ".join(facts) + ".\n\n**Loss**, the sum of:\n\n" + "\n".join(loss)


def _settings(each: Entry, node: Mapping[str, Any], folder: str) -> str:
    """What one may set, with its default and what the yaml says; without what follows from other settings."""
    rows = []
    own = {key: value for key, value in each.settings.items() if not key.startswith(HIDDEN) and "${" not in str(value)}
    for key, value in settings_of(own).items():
        rows.append((f"{folder}.{key}", written(value), each.notes.get(key, "")))
    rows += [(key, written(value), each.notes.get(key, "")) for key, value in each.elsewhere.items()]
    return settings_table(rows) if rows else ""


def settings_table(rows: list[tuple[str, str, str]]) -> str:
    """(key, default, meaning) as a table."""
    shown = [(code(key), code(value) if value else "", prose(note, words=True)) for key, value, note in rows]
    return table(("setting", "default", "meaning"), shown)


def _modules(node: Mapping[str, Any]) -> Iterator[str]:
    """The modules that an option is about: of a method's terms, the labels' comes only where it is alone."""
    terms = node.get("terms")
    if isinstance(terms, Mapping):
        found = [term["_target_"].rpartition(".")[0] for term in terms.values() if isinstance(term, Mapping)]
        others = [module for name, module in zip(terms, found, strict=True) if name != "hard"]
        yield from dict.fromkeys(others or found)
        return
    for part in (node, node.get("wrap"), node.get("network")):
        if isinstance(part, Mapping) and str(part.get("_target_", "")).startswith("kd."):
            yield part["_target_"].rpartition(".")[0]
            return


def _from_the_code(module: str, root: Path, each: Entry, told: set[str]) -> str:
    """A module's docstring, the first time that a page comes to it, without a first line that only names the paper."""
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, _, rest = text.partition("\n\n")
    body = rest if each.paper and each.paper.link in first else text
    where = path.relative_to(root).as_posix()
    link = f"[{code(where)}](../{where})"
    if module in told or not body.strip():
        return f"Code: {link}."
    told.add(module)
    return f"From {link}:\n\n{docstring(body)}"
