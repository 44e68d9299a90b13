"""The pages under Reference say what the configs, the code and the commands say."""

from __future__ import annotations

import os

import pytest
from reference.cli import environment
from reference.text import docstring, prose, remarks
from reference_pages import GENERATED, ROOT, difference, pages

from tests import quickly


def help_of(module: str) -> str:
    done = quickly.run(module, "--help", cwd=ROOT, env=environment(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Every page but the tables whose networks are counted: tests/zoo/test_zoo.py compares those."""
    return dict(pages(help_of=help_of, is_light=True))


def test_no_page_is_stale(made):
    for name, text in made.items():
        there = (ROOT / "docs" / name).read_text(encoding="utf-8")
        wrong = difference(there, text, name)
        assert not wrong, f"{wrong}\nrun python scripts/reference_pages.py"


def test_every_page_says_that_it_is_generated_and_names_no_place_of_this_machine(made):
    for text in made.values():
        title, _, rest = text.partition("\n")
        assert title.startswith("# ") and rest.strip().startswith(GENERATED)
        assert str(ROOT) not in text and os.path.expanduser("~/") not in text


def test_a_comment_becomes_markdown():
    assert prose("a*b and [c] of kd=dkd, see kd/zoo/tables.py.", words=True) == (
        r"a\*b and \[c\] of `kd=dkd`, see `kd/zoo/tables.py`."
    )
    assert prose("``x|y`` at https://example.org/a_b.") == "`x|y` at <https://example.org/a_b>."
    assert remarks(["Costs nothing.", "It is free.", "  python -m kd.run", "Expect: little."]) == (
        "**Costs** nothing. It is free.\n\n```sh\npython -m kd.run\n```\n\n**Expect**: little."
    )


DOCSTRING = """One thing.

More of
it.

- a
  b
- c

Args:
    x: of it.
        Long. y, z: no.

Returns:
    What."""


def test_a_docstring_becomes_markdown():
    head = "One thing.\n\nMore of it.\n\n- a b\n- c\n\n**Args**\n\n"
    assert docstring(DOCSTRING) == head + "- `x`: of it. Long. y, z: no.\n\n**Returns**\n\n- What."
    assert docstring(DOCSTRING, ("x", "y", "z")) == (
        head + "- `x`: of it. Long.\n- `y, z`: no.\n\n**Returns**\n\n- What."
    )
