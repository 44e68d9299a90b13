"""Dotted keys in nested plain values: look them up, follow their interpolations, quote their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kd.runtime.text import MAX_SUGGESTIONS, closest, suggestion

Tree = Mapping[str, Any]
SIMILAR = 0.75  # lowest similarity of dotted keys; higher than for words, since keys share their prefixes


def get_path(tree: Any, key: str) -> Any:
    """Return the value at a dotted key, or None."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def key_of(override: str) -> str:
    """``"+kd.beta=2"`` -> ``"kd.beta"``."""
    return override.partition("=")[0].lstrip("+~")


def first_missing(tree: Any, key: str) -> bool:
    """Whether a key does not exist; a key with the value None exists."""
    *parents, last = key.split(".")
    node = get_path(tree, ".".join(parents)) if parents else tree
    return not isinstance(node, Mapping) or last not in node


def is_within(key: str, owner: str) -> bool:
    """Whether ``key`` is ``owner``, or below it."""
    return key == owner or key.startswith(f"{owner}.")


def expand(tree: Tree, pattern: str, prefix: str = "") -> Iterator[str]:
    """Yield the keys that a pattern matches: ``kd.weights.*``."""
    first, _, rest = pattern.partition(".")
    for name in [*tree] if first == "*" else [first] if first in tree else []:
        if not rest:
            yield f"{prefix}{name}"
        elif isinstance(tree[name], Mapping):
            yield from expand(tree[name], rest, f"{prefix}{name}.")


REFERENCE = re.compile(
    r"(?<!\\)\$\{\s*(?:oc\.(?:select|dict\.keys|dict\.values|deprecated)\s*:\s*)?([^:{},$]+?)\s*[,}]"
)
FROM_ENVIRONMENT = re.compile(r"\$\{\s*(?:oc\.env|from_env)\s*:\s*(\w+)")
ALONE = re.compile(r"\$\{\s*([^:{}]+?)\s*\}")


def references(value: Any, key: str) -> Iterator[str]:
    """Yield the keys that the interpolations of a value refer to; of a nested one, ``${kd.${name}}``, also its start.

    Args:
        value: text, or lists and mappings with text in them. key: the key of ``value``.
    """
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from references(child, f"{key}.{name}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from references(child, f"{key}.{number}")
    elif isinstance(value, str):
        for found in [*REFERENCE.findall(value), *re.findall(r"\$\{([\w.]+)\.\$\{", value)]:
            yield absolute(found, key)


def absolute(reference: str, key: str) -> str:
    """Resolve a relative key: ``...temperature`` at ``kd.terms.soft.temperature`` is ``kd.temperature``."""
    name = re.sub(r"\[(\w+)\]", r".\1", reference)
    own = name.lstrip(".")
    up = len(name) - len(own)
    base = key.split(".")[:-up] if up else []
    return ".".join([*base, own])


def did_you_mean_key(key: str, known: Iterable[str]) -> str:
    """Return ``; did you mean kd.temperature?``: keys that are similar or have a similar last part; "" if none has."""
    known, last = list(dict.fromkeys(known)), key.rpartition(".")[2]
    found = [own for own in known if own.rpartition(".")[2] == last]
    found += closest(key, known, cutoff=SIMILAR)
    if not found:
        ends = {own.rpartition(".")[2]: own for own in known}
        found = [ends[end] for end in closest(last, ends, 2, SIMILAR)]
    return suggestion(list(dict.fromkeys(own for own in found if own != key))[:MAX_SUGGESTIONS])


def quote_value(value: Any) -> str:
    """Return a value as you type it, truncated to 80 characters."""
    word = {None: "null", True: "true", False: "false"}.get(value, "") if isinstance(value, bool | None) else ""
    text = word or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
