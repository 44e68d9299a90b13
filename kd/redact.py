"""What leaves this machine says neither a secret nor where things lie on it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

WITHHELD = "(withheld)"
_WORDS = "token|api_?key|access_?key|private_?key|passw(?:or)?d|pwd|passphrase|secret|credentials?|authorization"
SECRET = re.compile(rf"(?:^|[._\-])(?:{_WORDS})(?:$|[._\-])", re.IGNORECASE)  # a setting: kd.hub_token
# token=... within a text
SAID = re.compile(rf"((?<![a-z])(?:{_WORDS})\s*[=:]\s*(?:(?:bearer|basic)\s+)?)[^\s&,;'\"]+", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # https://user:password@host
# an absolute path of any system within a text, its last part "last"; a URL is no path, but for file://
PLACE = re.compile(
    r"(?P<url>\b(?!file:)[a-zA-Z][\w+.\-]+://[^\s'\"]*)"
    r"|(?<![\w./~])(?:file:|~\w*|[A-Za-z]:)?[\\/](?:[^\s,;'\"\\/]*[\\/])*(?P<last>[^\s,;'\"\\/]+)"
)
# of the environment, with the fewest characters of a value that is withheld: a key may be the word "accuracy"
VARIABLES = {
    re.compile("TOKEN|SECRET|PASSW|_PWD$|CREDENTIAL|API_?KEY", re.IGNORECASE): 6,
    re.compile("_KEY$", re.IGNORECASE): 10,
}


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` without secrets and with every absolute path cut to its last part, in lists and mappings too.

    Args:
        name: the setting's. Where it is that of a secret nothing is left of the value (true, false and null are).
    """
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if SECRET.search(re.sub("(?<=[a-z])(?=[A-Z])", "_", name)) and value is not None and not isinstance(value, bool):
        return WITHHELD
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return without_places(without_secrets(value)) if isinstance(value, str) else value


def without_secrets(text: str) -> str:
    """Withhold logins in URLs, ``token=...``, and what the environment holds under such a name."""
    for name, value in os.environ.items():
        if any(kind.search(name) and len(value) >= least for kind, least in VARIABLES.items()):
            text = text.replace(value, WITHHELD)
    return SAID.sub(rf"\1{WITHHELD}", LOGIN.sub("", text))


def without_places(text: str) -> str:
    """Cut absolute paths to their last part."""
    if text.startswith(("/", "~/")):  # all of it, with its spaces
        return PurePosixPath(text).name
    if PureWindowsPath(text).is_absolute():
        return PureWindowsPath(text).name
    for place in (Path.home, Path.cwd):  # may hold spaces, which end a path within a text
        with suppress(RuntimeError, OSError):  # nobody's home, a working folder that was removed
            text = text.replace(f"{str(place()).rstrip(os.sep)}{os.sep}", os.sep)
    return PLACE.sub(lambda found: found["url"] or found["last"], text)
