"""Names of timm's networks and optimisers, read from its source: importing timm takes seconds.

A name that the source does not mention is refused here; timm itself refuses a name that is mentioned but not usable.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

MENTIONED = re.compile(r"def (\w+)\(|['\"]([a-z][\w.]+)['\"]")
OFFERED = {"models": re.compile(r"@register_model\s+def (\w+)\("), "optim": re.compile(r"\bname=['\"](\w+)['\"]")}


def is_mentioned(name: str, part: str) -> bool:
    """Whether timm's ``models`` or ``optim`` mention a name; of ``resnet18.a1_in1k``, the first part."""
    known = _mentioned(part)
    return not known or name.partition(".")[0] in known


def offered(part: str) -> list[str]:
    """Return the names that timm's ``models`` or ``optim`` register."""
    return OFFERED[part].findall(_source(part))


@cache
def _mentioned(part: str) -> frozenset[str]:
    return frozenset(first or second for first, second in MENTIONED.findall(_source(part)))


@cache
def _source(part: str) -> str:
    spec = importlib.util.find_spec("timm")
    folders = spec.submodule_search_locations if spec else ()
    paths = [path for folder in folders for path in sorted(Path(folder, part).glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
