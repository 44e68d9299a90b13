"""The group `data`: what a data set's page says of it. Nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.zoo.pages import Entry, entry, read_page, settings_of

FACTS = re.compile(
    r"(?P<classes>[\d,]+) classes, (?P<train>[\d,]+) \+ (?P<test>[\d,]+) images, "
    r"(?P<pixels>\d+ x \d+ (?:grey|RGB)), (?:licence:? )?(?P<licence>.+?)(?: licence)?\.$"
)
COLUMNS = {"classes": "classes", "train": "training", "test": "test", "pixels": "pixels", "licence": "licence"}
COMMON = frozenset({"seed", "augment"})


def dataset(path: Path, *_: Any) -> Entry:
    """A data set, from its page in conf/data. Of images of one's own the page says "As found"."""
    page = read_page(path, "data")
    facts, found = facts_of(page.header), any(line.startswith("As found") for line in page.header)
    counts = {name: number(facts[name]) if name in facts else None for name in ("classes", "train", "test")}
    return entry(
        path,
        page,
        settings=settings_of(page.node),
        common=COMMON,
        cells={column: facts.get(name, "as found" if found else "–") for name, column in COLUMNS.items()},
        facts={column: [facts[name]] for name, column in COLUMNS.items() if name in facts},
        data={**counts, "pixels": facts.get("pixels"), "licence": facts.get("licence")},
    )


def facts_of(header: Sequence[str]) -> dict[str, str]:
    """Read "10 classes, 60,000 + 10,000 images, 28 x 28 grey, MIT licence." where a line of the header says so."""
    matches = filter(None, map(FACTS.match, header))
    return next((match.groupdict() for match in matches), {})


def number(text: str) -> int:
    return int(text.replace(",", ""))
