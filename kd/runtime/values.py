"""Values of settings: numbers, nested mappings, and one spelling as text in all tables, figures and files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

WORDS = {"null": None, "true": True, "false": False}


def is_number(value: Any) -> bool:
    """Whether this is a finite number. A boolean is not, although it is an int in Python."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def flatten(
    tree: Mapping[str, Any], separator: str = ".", keep_empty: bool = False, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under joined names: ``("kd.temperature", 4.0)``.

    Args:
        keep_empty: yield empty mappings too.
    """
    for name, value in tree.items():
        if isinstance(value, Mapping) and (value or not keep_empty):
            yield from flatten(value, separator, keep_empty, f"{prefix}{name}{separator}")
        else:
            yield f"{prefix}{name}", value


def parse_value(text: str) -> Any:
    """Return an override's value as Hydra reads it: number, boolean or null; anything else is text, without quotes."""
    for kind in (int, float) if text.isascii() else ():  # Python accepts the digits of any script
        try:
            return kind(text)
        except ValueError:
            pass
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    quote = text[:1]
    if len(text) > 1 and quote in "'\"" and text.endswith(quote):
        return text[1:-1].replace(f"\\{quote}", quote)
    return text


def format_value(value: Any) -> str:
    """Return a value as you would type it, floats with six digits. Text that would be parsed otherwise is quoted."""
    if isinstance(value, str):
        return value if parse_value(value) == value else f"'{value}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def number_or_text(value: Any) -> int | float | str:
    """Return a value for CSV and W&B: numbers with all digits, the rest as ``format_value``."""
    return value if is_number(value) else format_value(value)


def format_override(override: str) -> str:
    """Return an override as you would type it: Hydra passes ``report=true`` on as ``report=True``."""
    key, equals, text = override.partition("=")
    return f"{key}{equals}{text.lower()}" if text.lower() in WORDS else override
