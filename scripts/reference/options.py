"""Write the pages of the options: methods, attentions, teachers, students, data sets, augmentations.

Each page has the table of ``python -m kd.zoo GROUP --markdown``, and a section for each option with the comments of its
yaml and the docstring of its module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kd.zoo.groups import GROUPS, Group, entries, natural, option_files
from kd.zoo.networks import UNUSED
from kd.zoo.options import FAMILIES, Entry, entry, read_option, settings_of
from kd.zoo.tables import format_default, markdown
from reference.text import code, docstring, fence, prose, remarks, table

END = "<!-- end -->"
COUNTED = ("attentions", "teachers", "students")  # counting their networks takes seconds
HIDDEN = ("terms", "weights", "schedule", "steps", UNUSED)  # parts of a loss, a network or a chain, not settings


def option_page(name: str, intro: str, root: Path, on_disk: str | None = None) -> str:
    """Return the page of a group.

    Args:
        name: of the group in ``kd.zoo``. intro: the text before the table.
        on_disk: the existing page, whose table saves counting the networks; None counts them.
    """
    group, conf = GROUPS[name], root / "conf"
    found = list(_described(group, conf)) if on_disk is not None and name in COUNTED else _measured(group, conf)
    marker = f"<!-- python -m kd.zoo {name} --markdown -->"
    rows = markdown(found, group) if on_disk is None or name not in COUNTED else _between(on_disk, marker)
    parts = [intro, marker, rows, END]
    family, shown = None, set()
    for each in found:
        if each.family != family:
            family = each.family
            parts.append(f"## {family}")
        parts.append(_section(each, group, root, shown))
    return "\n\n".join(parts)


def _measured(group: Group, conf: Path) -> list[Entry]:
    found, wrong = entries(group, conf)
    if wrong:
        raise SystemExit("\n".join(wrong))
    return found


def _described(group: Group, conf: Path) -> Iterator[Entry]:
    """Yield the entries in the order of the table, without counts."""
    found = []
    for path in option_files(group, conf).values():
        option = read_option(path, group.folder)
        found.append(entry(path, option, settings=settings_of(option.node)))
    order = {family: place for place, family in enumerate(FAMILIES)}
    yield from sorted(found, key=lambda e: (order.get(e.family, len(order)), e.family, natural(e.name)))


def _between(text: str, marker: str) -> str:
    return text.partition(marker)[2].partition(END)[0].strip()


def _section(each: Entry, group: Group, root: Path, shown: set[str]) -> str:
    """Format one option; ``shown`` collects the modules whose docstring the page already has."""
    parts = [f"### {each.name}"]
    if each.paper:
        parts.append(f"[{prose(each.paper.title)}]({each.paper.link}), {prose(each.paper.authors)} {each.paper.year}.")
    elif each.about:
        about = prose(each.about, words=True)
        parts.append(f"{about[0].upper()}{about[1:]}".rstrip(".") + ".")
    parts.append(remarks(each.comments[1:]))
    option = read_option(each.file, group.folder)
    if group.folder == "kd":
        parts.append(_of_a_method(each))
    parts.append(_settings(each, option.node, group.folder))
    parts += [_from_the_code(module, root, each, shown) for module in _modules(option.node)]
    required = [f" {group.folder}.{key}=…" for key, value in each.settings.items() if value == "???"]
    parts.append(fence(f"python -m kd.run {group.folder}={each.name}{''.join(required)}", "sh"))
    return "\n\n".join(filter(None, parts))


def _of_a_method(each: Entry) -> str:
    facts = [f"**{name.capitalize()}**: {prose(texts[0])}" for name, texts in each.facts.items() if name in each.cells]
    loss = [f"- {prose(term.rpartition(': ')[0])}: {code(term.rpartition(': ')[2])}" for term in each.facts["loss"]]
    return "; ".join(facts) + ".\n\n**Loss**, the sum of:\n\n" + "\n".join(loss)


def _settings(each: Entry, node: Mapping[str, Any], folder: str) -> str:
    """Format the settings with their defaults and comments, without those that follow from other settings."""
    rows = []
    own = {key: value for key, value in each.settings.items() if not key.startswith(HIDDEN) and "${" not in str(value)}
    for key, value in settings_of(own).items():
        rows.append((f"{folder}.{key}", format_default(value), each.notes.get(key, "")))
    rows += [(key, format_default(value), each.notes.get(key, "")) for key, value in each.elsewhere.items()]
    return settings_table(rows) if rows else ""


def settings_table(rows: list[tuple[str, str, str]]) -> str:
    """Format (key, default, meaning) as a table."""
    shown = [(code(key), code(value) if value else "", prose(note, words=True)) for key, value, note in rows]
    return table(("setting", "default", "meaning"), shown)


def _modules(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules of an option; that of the cross entropy with labels only if a method has no other term."""
    terms = node.get("terms")
    if isinstance(terms, Mapping):
        found = [term["_target_"].rpartition(".")[0] for term in terms.values() if isinstance(term, Mapping)]
        others = [module for name, module in zip(terms, found, strict=True) if name != "hard"]
        yield from dict.fromkeys(others or found)
        return
    if isinstance(node.get("steps"), Mapping):
        yield from dict.fromkeys(step["_target_"].rpartition(".")[0] for step in node["steps"].values())
        return
    for part in (node, node.get("wrap"), node.get("network")):
        if isinstance(part, Mapping) and str(part.get("_target_", "")).startswith("kd."):
            yield part["_target_"].rpartition(".")[0]
            return


def _from_the_code(module: str, root: Path, each: Entry, shown: set[str]) -> str:
    """Format a module's docstring, once a page, without a first paragraph that only names the paper."""
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, _, rest = text.partition("\n\n")
    body = rest if each.paper and each.paper.link in first else text
    where = path.relative_to(root).as_posix()
    link = f"[{code(where)}](../{where})"
    if module in shown or not body.strip():
        return f"Code: {link}."
    shown.add(module)
    return f"From {link}:\n\n{docstring(body)}"
