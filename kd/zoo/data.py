"""The group `data`: facts from the yaml of a data set. No data are loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.zoo.options import Entry, entry, read_option, settings_of

FACTS = re.compile(
    r"(?P<classes>[\d,]+) classes, (?P<train>[\d,]+) \+ (?P<test>[\d,]+) images, "
    r"(?P<pixels>\d+ x \d+ (?:grey|RGB)), (?:licence:? )?(?P<licence>.+?)(?: licence)?\.$"
)
COLUMNS = {"classes": "classes", "train": "training", "test": "test", "pixels": "pixels", "licence": "licence"}
COMMON = frozenset({"seed", "augment"})


def dataset(path: Path, *_: Any) -> Entry:
    """Return the entry of a data set, from its yaml in conf/data; for own images the yaml says "As found"."""
    option = read_option(path, "data")
    facts, is_own = facts_of(option.header), any(line.startswith("As found") for line in option.header)
    counts = {name: number(facts[name]) if name in facts else None for name in ("classes", "train", "test")}
    return entry(
        path,
        option,
        settings=settings_of(option.node),
        common=COMMON,
        cells={column: facts.get(name, "as found" if is_own else "–") for name, column in COLUMNS.items()},
        facts={column: [facts[name]] for name, column in COLUMNS.items() if name in facts},
        data={**counts, "pixels": facts.get("pixels"), "licence": facts.get("licence")},
    )


def facts_of(header: Sequence[str]) -> dict[str, str]:
    """Parse the header line "10 classes, 60,000 + 10,000 images, 28 x 28 grey, MIT licence.", if there is one."""
    matches = filter(None, map(FACTS.match, header))
    return next((match.groupdict() for match in matches), {})


def number(text: str) -> int:
    return int(text.replace(",", ""))
