"""Redaction: remove secrets and absolute paths from whatever leaves this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

WITHHELD = "(withheld)"
_WORDS = "token|api_?key|access_?key|private_?key|passw(?:or)?d|pwd|passphrase|secret|credentials?|authorization"
SECRET_NAME = re.compile(rf"(?:^|[._\-])(?:{_WORDS})(?:$|[._\-])", re.IGNORECASE)  # a setting: kd.hub_token
# token=... inside a text
SECRET_IN_TEXT = re.compile(rf"((?<![a-z])(?:{_WORDS})\s*[=:]\s*(?:(?:bearer|basic)\s+)?)[^\s&,;'\"]+", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # https://user:password@host
# an absolute path of any system inside a text, its last part as "last"; a URL is no path, except file://
PATH_IN_TEXT = re.compile(
    r"(?P<url>\b(?!file:)[a-zA-Z][\w+.\-]+://[^\s'\"]*)"
    r"|(?<![\w./~])(?:file:|~\w*|[A-Za-z]:)?[\\/](?:[^\s,;'\"\\/]*[\\/])*(?P<last>[^\s,;'\"\\/]+)"
)
# environment variables that hold secrets, with the minimum length of a withheld value: a key may be the word "accuracy"
SECRET_VARIABLES = {
    re.compile("TOKEN|SECRET|PASSW|_PWD$|CREDENTIAL|API_?KEY", re.IGNORECASE): 6,
    re.compile("_KEY$", re.IGNORECASE): 10,
}


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` without secrets and with every absolute path cut to its last part, in lists and mappings too.

    Args:
        name: of the setting. If it names a secret, the value is withheld (except true, false and null).
    """
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    named_secret = SECRET_NAME.search(re.sub("(?<=[a-z])(?=[A-Z])", "_", name))
    if named_secret and value is not None and not isinstance(value, bool):
        return WITHHELD
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return without_paths(without_secrets(value)) if isinstance(value, str) else value


def without_secrets(text: str) -> str:
    """Withhold logins in URLs, ``token=...``, and the values of environment variables that hold secrets."""
    for name, value in os.environ.items():
        if any(kind.search(name) and len(value) >= least for kind, least in SECRET_VARIABLES.items()):
            text = text.replace(value, WITHHELD)
    return SECRET_IN_TEXT.sub(rf"\1{WITHHELD}", LOGIN.sub("", text))


def without_paths(text: str) -> str:
    """Cut absolute paths to their last part."""
    if text.startswith(("/", "~/")):  # the whole text is a path, with its spaces
        return PurePosixPath(text).name
    if PureWindowsPath(text).is_absolute():
        return PureWindowsPath(text).name
    for folder in (Path.home, Path.cwd):  # may contain spaces, which end a path inside a text
        with suppress(RuntimeError, OSError):  # the user has no home, or the working folder was removed
            text = text.replace(f"{str(folder()).rstrip(os.sep)}{os.sep}", os.sep)
    return PATH_IN_TEXT.sub(lambda found: found["url"] or found["last"], text)
