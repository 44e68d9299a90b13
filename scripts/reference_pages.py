"""Write the pages under Reference: ``python scripts/reference_pages.py``, with ``--check`` compare them only.

The script reads everything from conf/, kd/ and the ``--help`` of the commands, so a new option needs no change here. It
builds networks to count them, which takes most of its ten seconds.
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
GROUPS = {  # the groups of kd.zoo, and the page of each
    "methods": "methods.md",
    "attentions": "attentions.md",
    "teachers": "teachers.md",
    "students": "students.md",
    "data": "datasets.md",
    "augments": "augments.md",
}
CONFIG_GROUPS = {  # the groups of conf/, and the page that lists the options of each
    "augment": "augments.md",
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
        help_of: returns the output of ``python -m module --help``.
        is_light: copy the tables of networks from the existing pages, and count none.
    """

    def finished(name: str, text: str) -> tuple[str, str]:
        return name, f"{text.rstrip()}\n"

    for group, name in GROUPS.items():
        old = (docs / name).read_text(encoding="utf-8") if is_light else None
        yield finished(name, option_page(group, introduction(name), ROOT, old))
    yield finished("settings.md", settings_page(introduction("settings.md"), ROOT, CONFIG_GROUPS))
    yield finished("result-json.md", result_page(introduction("result-json.md")))
    yield finished("cli.md", cli_page(introduction("cli.md"), ROOT, help_of or partial(ask, root=ROOT)))


def introduction(name: str) -> str:
    """Return the text of a page before its tables, with a comment that the page is generated."""
    title, _, rest = (INTRODUCTIONS / name).read_text(encoding="utf-8").strip().partition("\n")
    return f"{title}\n\n{GENERATED}\n\n{rest.strip()}"


def difference(old: str, new: str, name: str) -> str:
    """Return the first few lines in which a page on disk differs from the generated one."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"docs/{name}", "generated", lineterm="", n=0)
    return "\n".join([*lines][:12])


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference pages in docs/ from the configs and the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    given = parser.parse_args()
    stale = []
    for name, text in pages():
        path = ROOT / "docs" / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old == text:
            continue
        stale.append(name)
        if given.check:
            print(difference(old, text, name))
        else:
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name}")
    if stale and given.check:
        print(f"stale: {', '.join(stale)}. Run python scripts/reference_pages.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
