"""The group `methods`: what a method of distillation reads of the teacher, and what its loss is made of."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.zoo.pages import Entry, Page, entry, read_page

SHOWN = ("logits", "embedding", "features", "class_maps")  # of ``Outputs``, as a teacher shows them
NO_SETTINGS = {"terms", "weights", "schedule"}


def method(path: Path, *_: Any) -> Entry:
    """A method of distillation, from its page in conf/kd.

    Raises:
        ValueError, ImportError, AttributeError: a class that there is not, or one that does not say what it reads.
    """
    from kd.interfaces import LOGITS_ONLY  # imports torch

    page = read_page(path, "kd")
    needs, loss, terms = contents(page, path)
    reads = [name for name in SHOWN if name in needs]
    cached = needs <= LOGITS_ONLY if needs else None
    cells = {"reads": ", ".join(reads) or "nothing", "cached": {True: "yes", False: "no", None: "–"}[cached]}
    return entry(
        path,
        page,
        settings={key: value for key, value in page.node.items() if key not in NO_SETTINGS},
        cells=cells,
        facts={**{name: [text] for name, text in cells.items()}, "loss": loss},
        data={"reads": reads, "cached": cached, "terms": terms},
    )


def contents(page: Page, path: Path) -> tuple[set[str], list[str], dict[str, str]]:
    """Return what a method reads, its loss, a line a term, and the class of each term."""
    terms, weights = page.node.get("terms") or {}, page.node.get("weights") or {}
    if isinstance(terms, list):  # a page that combines methods by their names
        listed = [method(path.with_name(f"{name}.yaml")) for name in terms]
        needs = {name for found in listed for name in found.data["reads"]}
        return needs, [part for found in listed for part in found.facts["loss"]], {e.name: e.name for e in listed}
    # as in the objective: what weighs nothing is left out, and reads nothing
    asked = (term for name, term in terms.items() if number(weights.get(name), page.node) != 0)
    loss = [f"{spoken(weights.get(name))} × {name}: {named(term)}" for name, term in terms.items()]
    return set().union(*map(needs_of, asked)), loss, {name: named(term) for name, term in terms.items()}


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
