"""What ``kd.runtime.user_warnings.warn_user`` says reaches the person once: as a sentence, from one process, once a command.

A method says it when it is rehearsed and again when it trains, and Python's own filter forgets in between. The cells of
a sweep may run in many processes: the first that finds something to advise leaves it in the sweep's folder.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any

from kd.runtime.console import RANK

FOLDER = "advice"  # in a sweep's: a file for each text
_told: set[str] = set()
_shared: Path | None = None


def show_plainly() -> None:
    """From here on this process tells advice as sentences, and anybody else's warning as Python writes it."""
    warnings.formatwarning = plainly


def plainly(message: Warning | str, category: type[Warning], *rest: Any) -> str:
    """The line for the terminal; nothing where it was told before, or where another process tells it."""
    if category.__name__ != "Advice":
        return _format(message, category, *rest)
    return f"kd: {message}\n" if RANK == 0 and _is_new(str(message)) else ""


_format = warnings.formatwarning


def forget_shown(sweep: Path) -> None:
    """Of a sweep that begins (again) all is told once more, but for what this process has told already."""
    shutil.rmtree(sweep / FOLDER, ignore_errors=True)
    share_folder(sweep)
    for text in _told:
        _is_first(text)


def share_folder(sweep: Path) -> None:
    """From here on the processes of this sweep tell each thing once between them."""
    global _shared
    _shared = sweep / FOLDER


def _is_new(text: str) -> bool:
    if text in _told:
        return False
    _told.add(text)
    return _shared is None or _is_first(text)


def _is_first(text: str) -> bool:
    """Whether no other process has left this text in the sweep's folder, where it is now."""
    try:
        _shared.mkdir(exist_ok=True)
        with (_shared / hashlib.sha256(text.encode()).hexdigest()[:12]).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError:  # a full disk: rather twice than never
        return True
    return True


class KdWarning(UserWarning):
    """What ``advise`` says: the command tells it as a sentence, once, before anything is trained."""


def warn_user(text: str) -> None:
    """Say that a method works, but not as its user may think."""
    warnings.warn(text, KdWarning, stacklevel=3)
