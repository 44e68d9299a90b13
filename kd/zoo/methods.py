"""The group `methods`: the outputs of the teacher that a method reads, and the terms of its loss."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.zoo.options import HEADER, Entry, OptionFile, entry, read_option

OUTPUTS = ("logits", "embedding", "features", "class_maps")  # of a teacher, as in ``kd.interfaces.Outputs``
NO_SETTINGS = {"terms", "weights", "schedule"}


def method(path: Path, *_: Any) -> Entry:
    """Return the entry of a method, from its yaml in conf/kd.

    Raises:
        ValueError, ImportError, AttributeError: a class that does not exist, or one without ``needs``.
    """
    from kd.interfaces import LOGITS_ONLY  # imports torch

    option = read_option(path, "kd")
    needs, loss, terms = contents(option, path)
    reads = [name for name in OUTPUTS if name in needs]
    cached = needs <= LOGITS_ONLY if needs else None
    facts = {"reads": ", ".join(reads) or "nothing", "cached": {True: "yes", False: "no", None: "–"}[cached]}
    cited = HEADER.match(option.header[0]) if option.header else None
    return entry(
        path,
        option,
        settings={key: value for key, value in option.node.items() if key not in NO_SETTINGS},
        cells={"year": cited[4] if cited else "–", **facts},
        facts={**{name: [text] for name, text in facts.items()}, "loss": loss},
        data={"reads": reads, "cached": cached, "terms": terms},
    )


def contents(option: OptionFile, path: Path) -> tuple[set[str], list[str], dict[str, str]]:
    """Return the outputs that a method reads, its loss with a line for each term, and the class of each term."""
    terms, weights = option.node.get("terms") or {}, option.node.get("weights") or {}
    if isinstance(terms, list):  # an option that combines methods by their names
        listed = [method(path.with_name(f"{name}.yaml")) for name in terms]
        needs = {name for found in listed for name in found.data["reads"]}
        return needs, [part for found in listed for part in found.facts["loss"]], {e.name: e.name for e in listed}
    # as in the objective: a term of weight 0 is left out and reads nothing
    active = (term for name, term in terms.items() if number(weights.get(name), option.node) != 0)
    loss = [f"{format_weight(weights.get(name))} × {name}: {target_of(term)}" for name, term in terms.items()]
    return set().union(*map(needs_of, active)), loss, {name: target_of(term) for name, term in terms.items()}


def needs_of(node: Any) -> set[str]:
    """Return the outputs that a term reads, from its class; for a term around others, from theirs."""
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
    """Return the default value of a weight that is a setting or one minus a setting, else the weight as it is."""
    match = re.fullmatch(r"\$\{(?P<rest>one_minus:\$\{)?\.\.(?P<name>\w+)\}+", str(value))
    if not match or not isinstance(node.get(match["name"]), int | float):
        return value
    return 1 - node[match["name"]] if match["rest"] else node[match["name"]]


def format_weight(weight: Any) -> str:
    """Format a weight: ``${one_minus:${..alpha}}`` becomes (1 - alpha)."""
    text = re.sub(r"\$\{\.+(\w+)\}", r"\1", str(weight))
    return re.sub(r"\$\{one_minus:(\w+)\}", r"(1 - \1)", text)


def target_of(node: Any) -> str:
    return str(node.get("_target_", "?")) if isinstance(node, dict) else "?"
