"""What leaves this machine says neither a secret nor where things lie on it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

WITHHELD = "(withheld)"
_WORDS = "token|api_?key|access_?key|passw(?:or)?d|passphrase|secret|credentials?"
SECRET = re.compile(rf"(?:^|[._\-])(?:{_WORDS})(?:$|[._\-])", re.IGNORECASE)  # a setting: kd.hub_token
SAID = re.compile(rf"((?<![a-z])(?:{_WORDS})\s*[=:]\s*)[^\s&,;'\"]+", re.IGNORECASE)  # token=... within a text
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # https://user:password@host
# an absolute path of any system within a text, its last part "last"; a URL is no path, but for file://
PLACE = re.compile(
    r"(?P<url>\b(?!file:)[a-zA-Z][\w+.\-]+://[^\s'\"]*)"
    r"|(?<![\w./~])(?:file:|~|[A-Za-z]:)?[\\/](?:[^\s,;'\"\\/]*[\\/])*(?P<last>[^\s,;'\"\\/]+)"
)
VARIABLE = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|_KEY$", re.IGNORECASE)  # of the environment
SHORTEST = 10  # characters of what such a variable holds: "accuracy" is a word, whoever calls it a key


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` without secrets and with every absolute path cut to its last part, in lists and mappings too.

    Args:
        name: the setting's. Where it is that of a secret nothing is left of the value (true, false and null are).
    """
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if SECRET.search(name) and value is not None and not isinstance(value, bool):
        return WITHHELD
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return without_places(without_secrets(value)) if isinstance(value, str) else value


def without_secrets(text: str) -> str:
    """Withhold logins in URLs, ``token=...``, and what the environment holds under such a name."""
    for name, value in os.environ.items():
        if VARIABLE.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, WITHHELD)
    return SAID.sub(rf"\1{WITHHELD}", LOGIN.sub("", text))


def without_places(text: str) -> str:
    """Cut absolute paths to their last part."""
    if text.startswith(("/", "~/")):  # all of it, with its spaces
        return PurePosixPath(text).name
    if PureWindowsPath(text).is_absolute():
        return PureWindowsPath(text).name
    for place in {str(Path.home()), os.getcwd()} - {"/"}:  # may hold spaces, which end a path within a text
        text = text.replace(f"{place}{os.sep}", os.sep)
    return PLACE.sub(lambda found: found["url"] or found["last"], text)
