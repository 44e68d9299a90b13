"""Warnings for the user: each is printed once per command, as a sentence, by one process.

A method warns in its dry run and again when it trains, and Python's own filter forgets in between. The cells of a sweep
may run in many processes: the first that prints a warning records it in the sweep's folder.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any

from kd.runtime.console import RANK

FOLDER = "advice"  # in a sweep's folder: one file per text
_shown: set[str] = set()  # texts that this process has printed
_shared: Path | None = None


def show_plainly() -> None:
    """Print warnings of kd as sentences from here on; other warnings stay as Python prints them."""
    warnings.formatwarning = plainly


def plainly(message: Warning | str, category: type[Warning], *rest: Any) -> str:
    """Return the line for the terminal; "" if it was printed before, or if another process prints it."""
    if not issubclass(category, KdWarning):
        return _format(message, category, *rest)
    return f"kd: {message}\n" if RANK == 0 and _is_new(str(message)) else ""


_format = warnings.formatwarning


def forget_shown(sweep: Path) -> None:
    """Print all warnings of a restarted sweep again, except those that this process has printed."""
    shutil.rmtree(sweep / FOLDER, ignore_errors=True)
    share_shown(sweep)
    for text in _shown:
        _is_first(text)


def share_shown(sweep: Path) -> None:
    """Print each warning once among all processes of this sweep from here on."""
    global _shared
    _shared = sweep / FOLDER


def _is_new(text: str) -> bool:
    if text in _shown:
        return False
    _shown.add(text)
    return _shared is None or _is_first(text)


def _is_first(text: str) -> bool:
    """Record this text in the sweep's folder; return whether no other process had recorded it."""
    try:
        _shared.mkdir(exist_ok=True)
        with (_shared / hashlib.sha256(text.encode()).hexdigest()[:12]).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError:  # a full disk: better twice than never
        return True
    return True


class KdWarning(UserWarning):
    """A warning of ``warn_user``."""


def warn_user(text: str) -> None:
    """Warn about behaviour the user may not expect."""
    warnings.warn(text, KdWarning, stacklevel=3)
