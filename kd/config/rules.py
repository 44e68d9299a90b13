"""Rules for values: what a value must be, in words and as a test."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kd.config.timm_names import is_mentioned, offered
from kd.config.wandb_names import FORBIDDEN, NAME_LENGTH, TAG_LENGTH
from kd.runtime.model_card import weights_in
from kd.runtime.values import is_number

NAME_BYTES = 255  # longest name that the usual file systems take


class Rule(NamedTuple):
    """What a value must be: in words, to follow "must be", and as a test."""

    right: str
    good: Callable[[Any], bool]
    parts: bool = False  # whether its entries have rules of their own
    names: Callable[[], Iterable[str]] | None = None  # the valid names, to suggest one


def number(least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf) -> Rule:
    """A finite number from ``least`` to ``most`` (inclusive), above ``above`` and below ``below`` (exclusive)."""

    def good(value: Any) -> bool:
        return is_number(value) and least <= value <= most and above < value < below

    return Rule(f"a number{_span(least, most, above, below)}", good)


def whole(least: float = -math.inf, most: float = math.inf) -> Rule:
    """A whole number."""

    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Rule(f"a whole number{_span(least, most, -math.inf, math.inf)}", good)


def _span(least: float, most: float, above: float, below: float) -> str:
    if max(least, above) == -math.inf:
        return "" if min(most, below) == math.inf else f" of {most:g} or less"
    if min(most, below) == math.inf:
        return f" above {above:g}" if above > least else f" of {least:g} or more"
    low = f"({above:g}" if above > least else f"[{least:g}"
    high = f"{below:g})" if below < most else f"{most:,}]" if isinstance(most, int) and most > 9999 else f"{most:g}]"
    return f" in {low}, {high}"


def one_of(*choices: str) -> Rule:
    return Rule(f"{', '.join(choices[:-1])} or {choices[-1]}", lambda value: value in choices)


def or_null(rule: Rule) -> Rule:
    return any_of([rule, NULL])


def list_of(rule: Rule, count: int | None = None) -> Rule:
    def good(value: Any) -> bool:
        return isinstance(value, list) and count in (None, len(value)) and all(map(rule.good, value))

    return Rule(f"a list{f' of {count}' if count else ''}, each {rule.right}", good)


def different(rule: Rule) -> Rule:
    """A list of at least one value, without duplicates."""
    good = list_of(rule).good
    return Rule(f"a list of different values, each {rule.right}", lambda v: good(v) and 0 < len(v) == len(set(v)))


def any_of(rules: Sequence[Rule]) -> Rule:
    right = ", or ".join(rule.right for rule in rules)
    return Rule(right, lambda value: any(rule.good(value) for rule in rules), any(rule.parts for rule in rules))


def is_line(value: Any) -> bool:
    """Whether this is text in one line, without control characters or lone surrogates."""
    return (
        isinstance(value, str)
        and bool(value)
        and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value)
    )


def line(most: int, without: str = "") -> Rule:
    """Text in one line of at most ``most`` characters, none of which is in ``without``."""

    def good(value: Any) -> bool:
        return is_line(value) and bool(value.strip()) and len(value) <= most and not set(value) & set(without)

    signs = f" without {' '.join(without)}" if without else ""
    return Rule(f"text in one line{signs}, of 1 to {most} characters", good)


def too_long(path: str, most: int = NAME_BYTES) -> bool:
    """Whether a part of a path has more bytes than file systems take; "é" has two, "図" three."""
    return any(len(name.encode("utf-8", "replace")) > most for name in path.split("/"))


def is_option_node(node: Any) -> bool:
    return isinstance(node, Mapping) and is_line(node.get("_target_"))


def _is_path(value: Any, exists: Callable[[Path], bool]) -> bool:
    try:
        return is_line(value) and exists(Path(value).expanduser())
    except (OSError, RuntimeError, ValueError):  # a name that is too long, the home of an unknown user
        return False


def _has_weights(path: Path) -> bool:
    try:
        return weights_in(path).is_file()
    except FileNotFoundError:
        return False


ANYTHING = Rule("anything", lambda value: True)
NULL = Rule("null", lambda value: value is None)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
LINE = Rule("text in one line", is_line)  # a quoted number is text: data.train_dir='"2024"'
PREFIX = Rule("text in one line, which may be empty", lambda value: value == "" or is_line(value))
WANDB_PATH = line(NAME_LENGTH, FORBIDDEN)  # a project, an entity
GROUP_OF_WANDB = line(NAME_LENGTH)
TAG_OF_WANDB = line(TAG_LENGTH)
LIST = Rule("a list", lambda value: isinstance(value, list))
MAPPING = Rule("a mapping, {name: value}", lambda value: isinstance(value, Mapping))
NAMED = Rule(MAPPING.right, MAPPING.good, parts=True)
OPTION_NODE = Rule("settings with a _target_", lambda value: is_option_node(value), parts=True)
FOLDER = Rule("an existing folder", lambda value: _is_path(value, Path.is_dir))
FILE = Rule("an existing file", lambda value: _is_path(value, Path.is_file))
WEIGHTS = Rule("an existing file, or the folder of a model card of timm", lambda value: _is_path(value, _has_weights))
NAME = Rule(
    f"the name of a folder, without / and of at most {NAME_BYTES} bytes",
    lambda v: is_line(v) and "/" not in v and v not in (".", "..") and not too_long(v),
)
WAY = Rule(
    f"a folder whose name has at most {NAME_BYTES} bytes", lambda v: not too_long(str(v))
)  # the number 2024 is one, too
DEVICE = Rule(
    "auto, cuda, cuda:0, mps or cpu",
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"auto|cpu|mps|cuda(:\d\d?)?", v)),
)
MODEL = Rule("a network of timm", lambda v: is_line(v) and is_mentioned(v, "models"), names=partial(offered, "models"))
OPTIMIZER = Rule(
    "an optimizer of timm, or dot",
    lambda v: v == "dot" or (is_line(v) and is_mentioned(v, "optim")),
    names=lambda: [*offered("optim"), "dot"],
)
SEED = Rule("a whole number of 0 or more, up to 2^53", whole(0, 2**53).good)
SHARE = number(0, 1)
PART = number(0, below=1)
