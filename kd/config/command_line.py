"""Make arguments readable for Hydra: homes (``~/images``), letters and signs that its grammar does not know.

An argument that Hydra can read stays as it is. A word that it cannot read is quoted if it can only be text. If it has
brackets or quotes it may have another meaning: the command is refused with the argument to type (``as_argument``).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from kd.runtime.values import flatten

OF_A_FOLDER = ("--config-d", "-cd", "--config-p", "-cp", "--experimental-r")  # options; argparse accepts abbreviations
OF_HYDRA = ("run", "sweep", "launcher", "sweeper", "job_logging", "output_subdir")  # its config nodes that hold paths
HOME = re.compile(r"(?P<kind>(?:file|sqlite):/{2,3})?(?P<home>~[^/\\]*)(?=[/\\]|$)")
# Hydra's grammar: escapes, tokens that are never divided, separators, and what else a word may hold
ESCAPED, BACKSLASH = re.compile(r"\\([\\()\[\]{}:=, \t])"), r"\\(?![\\()\[\]{}:=, \t])"
QUOTED, REFERENCE = r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", r"\$\{[^}]+\}"
TOKEN = re.compile(rf"(?P<mark>[\[\](){{}},])|{QUOTED}|{REFERENCE}|{ESCAPED.pattern}|.", re.DOTALL)
READABLE = re.compile(rf"(?:[\w/+.$%*@?|: \t-]|{REFERENCE}|{ESCAPED.pattern}|{BACKSLASH})*", re.ASCII)
PATH = re.compile(r"[\w.-]*/[\w./-]*", re.ASCII)  # which can be neither a number nor null


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command in a form that Hydra can read."""
    readable, before = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if before.startswith(OF_A_FOLDER) and "=" not in before:
            argument = expand_home(argument)
        elif name.startswith(OF_A_FOLDER):
            argument = f"{name}{equals}{expand_home(value)}"
        elif equals and not name.startswith("-"):
            argument = quote_override(argument)
        readable.append(argument)
        before = argument
    return readable


def quote_override(override: str) -> str:
    """Return ``key=value`` with homes expanded and unreadable words quoted.

    Returns ``override`` unchanged if Hydra can read it, or cannot read it even when quoted.
    """
    key, _, value = override.partition("=")
    changed = override if parsed(override) else f"{key}={''.join(_tokens(value))}"
    found = parsed(changed)
    if found is None:
        return override
    choice = found.value()
    if isinstance(choice, ChoiceSweep) and not (choice.simple_form or choice.shuffle or choice.tags):
        values = [*found.sweep_string_iterator()]  # without the quotes, and Hydra cannot read the jobs' overrides then
        if any(parsed(f"{key}={value}") is None for value in values):
            return f"{key}={','.join(map(_quoted, values))}"
    return changed


def _tokens(value: str) -> Iterator[str]:
    """Yield the words of a value, quoted if needed, and the separators between them."""
    word, inside = "", []
    for token in TOKEN.finditer(value):
        if not token["mark"] and token[0] != {"{": ":", "(": "="}.get("".join(inside[-1:])):
            word += token[0]
            continue
        yield _quoted(word)
        yield token[0]
        word = ""
        if token[0] in "[({":
            inside.append(token[0])
        elif token[0] in "])}":
            del inside[-1:]
    yield _quoted(word)


def _quoted(word: str) -> str:
    text = word.strip(" \t")  # as Hydra does
    if READABLE.fullmatch(text) or re.search("[\"']", text) or text.startswith("="):
        return word
    return as_value(expand_home(ESCAPED.sub(r"\1", text)))


def expand_home(text: str) -> str:
    """Expand the home in a path as a shell does: ``~/x``, ``~user/x``, ``sqlite:///~/x``; keep other text."""
    found = HOME.match(text)
    if found is None:
        return text
    return f"{found['kind'] or ''}{os.path.expanduser(found['home'])}{text[found.end() :]}"


def expand_homes(config: DictConfig) -> None:
    """Expand homes in the paths of a composed config where Hydra makes folders: it would make one called ``~``.

    Such paths come from KD_OUTPUTS, from your own config file, or quoted from the command line.
    """
    hydra = OmegaConf.to_container(config.hydra)
    paths: dict[str, Any] = {"hydra": {name: hydra[name] for name in OF_HYDRA if name in hydra}}
    with suppress(OmegaConfBaseException):  # another check reports broken interpolations
        paths["outputs"] = config.outputs
    params = paths["hydra"]["sweeper"].pop("params", None) or {}  # Hydra reads them like typed overrides
    with read_write(config), read_write(config.hydra):  # which Hydra 1.4 closes
        for name, value in flatten(paths, keep_empty=True):
            if isinstance(value, str) and expand_home(value) != value:
                OmegaConf.update(config, name, expand_home(value))
        for name, value in params.items():
            if isinstance(value, str):
                config.hydra.sweeper.params[name] = quote_override(f"{name}={value}").partition("=")[2]


def parsed(override: str) -> Override | None:
    """Return what Hydra reads in an argument, or None if it cannot read it; Hydra then raises its own error."""
    with suppress(Exception):
        return OverridesParser.create().parse_override(override)
    return None


def trim_text(typed: Sequence[str], read: Sequence[str]) -> Iterator[str]:
    """Yield a message for each text whose leading or trailing blank Hydra drops: it may belong to a folder's name.

    Args:
        read: what ``hydra_arguments`` made of ``typed``.
    """
    for argument, override in zip(typed, read, strict=True):
        name, equals, value = argument.partition("=")
        if equals and not name.startswith("-") and value.strip() and value != value.strip(" \t"):
            found = getattr(parsed(override), "_value", None)
            text = found.text if isinstance(found, QuotedString) and override != argument else found
            if isinstance(text, str) and text == text.strip(" \t"):
                key = name.lstrip("+")
                yield f"{key}: Hydra drops the blank around {value!r}; {as_argument(argument)} keeps it"


def as_value(text: str) -> str:
    """Return text as a value of Hydra's grammar; a plain path stays plain."""
    return text if PATH.fullmatch(text) else _in_quotes(text)


def as_argument(override: str) -> str:
    """Return ``key=value`` as you type it in a shell if all after the first ``=`` is text."""
    key, _, value = override.partition("=")
    return shlex.quote(f"{key}={_in_quotes(value)}")


def _in_quotes(text: str) -> str:
    rare = Quote.single if '"' in text and "'" not in text else Quote.double
    return QuotedString(text, rare).with_quotes()
