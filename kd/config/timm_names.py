"""Networks and optimisers of timm, by name, read from its sources: importing it takes seconds.

What these files do not mention is no name; timm itself has the last word on what they do.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

MENTIONED = re.compile(r"def (\w+)\(|['\"]([a-z][\w.]+)['\"]")
OFFERED = {"models": re.compile(r"@register_model\s+def (\w+)\("), "optim": re.compile(r"\bname=['\"](\w+)['\"]")}


def is_mentioned(name: str, part: str) -> bool:
    """Whether timm's ``models`` or ``optim`` mention a name; of ``resnet18.a1_in1k`` the first part is one."""
    known = _mentioned(part)
    return not known or name.partition(".")[0] in known


def offered(part: str) -> list[str]:
    """The names that they offer."""
    return OFFERED[part].findall(_source(part))


@cache
def _mentioned(part: str) -> frozenset[str]:
    return frozenset(first or second for first, second in MENTIONED.findall(_source(part)))


@cache
def _source(part: str) -> str:
    found = importlib.util.find_spec("timm")
    places = found.submodule_search_locations if found else ()
    paths = [path for place in places for path in sorted(Path(place, part).glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
