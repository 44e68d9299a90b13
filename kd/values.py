"""A setting's value as text and back: one spelling of it in every table, figure, file and line of a report."""

from __future__ import annotations

from typing import Any

WORDS = {"null": None, "true": True, "false": False}


def typed(text: str) -> Any:
    """An override's value, as Hydra reads it: numbers, booleans and null; anything else is text, without its quotes."""
    for kind in (int, float) if text.isascii() else ():  # Python counts in every script
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


def said(value: Any) -> str:
    """A value as it is typed, numbers with six digits; text that would be read as something else in quotes."""
    if isinstance(value, str):
        return value if typed(value) == value else f"'{value}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def told(value: Any) -> int | float | str:
    """A value for those who sort and calculate, CSV and W&B: numbers with all their digits, the rest as ``said``."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else said(value)


def spelled(override: str) -> str:
    """An override as it is typed: Hydra hands ``report=true`` on as ``report=True``."""
    key, equals, text = override.partition("=")
    return f"{key}{equals}{text.lower()}" if text.lower() in WORDS else override
