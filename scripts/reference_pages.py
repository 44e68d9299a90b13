"""Write the pages under Reference: ``python scripts/reference_pages.py``, with ``--check`` compare them only.

Everything in them is read from conf/, from kd/ and from what the commands say of themselves, so that a new option is
in them by being there. Networks are built to be counted: that is most of the ten seconds or so.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from reference.cli import ask, cli_page
from reference.options import option_page
from reference.result_json import result_page
from reference.settings import settings_page

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "<!-- Written by scripts/reference_pages.py from conf/ and kd/: change those, and run it again. -->"
GROUPS = {  # of kd.zoo, and the page of each
    "methods": "methods.md",
    "attentions": "attentions.md",
    "teachers": "teachers.md",
    "students": "students.md",
    "data": "datasets.md",
}
CONFIG_GROUPS = {  # the groups of conf/, and the page that lists the options of each
    "data": "datasets.md",
    "attention": "attentions.md",
    "teacher": "teachers.md",
    "student": "students.md",
    "kd": "methods.md",
}
INTRODUCTIONS = Path(__file__).with_name("reference")


def pages(
    docs: Path = ROOT / "docs", help_of: Callable[[str], str] | None = None, is_light: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of every page.

    Args:
        help_of: returns what ``python -m module --help`` says. is_light: take the tables of networks from the pages
            that are there, and count none.
    """

    def finished(name: str, text: str) -> tuple[str, str]:
        return name, f"{text.rstrip()}\n"

    for group, name in GROUPS.items():
        there = (docs / name).read_text(encoding="utf-8") if is_light else None
        yield finished(name, option_page(group, introduction(name), ROOT, there))
    yield finished("settings.md", settings_page(introduction("settings.md"), ROOT, CONFIG_GROUPS))
    yield finished("result-json.md", result_page(introduction("result-json.md")))
    yield finished("cli.md", cli_page(introduction("cli.md"), ROOT, help_of or partial(ask, root=ROOT)))


def introduction(name: str) -> str:
    """What a page says before its tables, and that it is generated."""
    title, _, rest = (INTRODUCTIONS / name).read_text(encoding="utf-8").strip().partition("\n")
    return f"{title}\n\n{GENERATED}\n\n{rest.strip()}"


def difference(there: str, wanted: str, name: str) -> str:
    """The first few lines in which a page differs from what it should be."""
    lines = difflib.unified_diff(there.splitlines(), wanted.splitlines(), f"docs/{name}", "generated", lineterm="", n=0)
    return "\n".join([*lines][:12])


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference pages in docs/ from the configs and the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    given = parser.parse_args()
    stale = []
    for name, text in pages():
        path = ROOT / "docs" / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there == text:
            continue
        stale.append(name)
        if given.check:
            print(difference(there, text, name))
        else:
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name}")
    if stale and given.check:
        print(f"stale: {', '.join(stale)}. Run python scripts/reference_pages.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
