"""The documentation's site without Zensical: its navigation, its links, its API pages. .ci/run builds it, strictly."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from api_pages import Module, api_pages, module_page
from build_site import ROOT, check_nav, expanded, nav_pages, site_places, with_links, write_sources
from site_links import check_site

NAV = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Everything that Zensical would read."""
    folder = tmp_path_factory.mktemp("site")
    write_sources(folder)
    return folder


@pytest.mark.skipif(not (ROOT / "docs" / "concepts.md").is_file(), reason="the hand-written pages are not here yet")
def test_the_navigation_has_every_page_and_no_other(sources):
    assert not check_nav(NAV, sources)


def test_a_page_that_is_missing_and_one_that_is_forgotten_are_named(tmp_path):
    (tmp_path / "here.md").write_text("# Here\n")
    (tmp_path / "extra.md").write_text("# Extra\n")
    assert check_nav([{"A": [{"B": "here.md"}, {"C": "gone.md"}]}], tmp_path) == [
        "zensical.toml: nav names gone.md, which does not exist",
        "zensical.toml: nav lacks extra.md",
    ]


def test_patterns_of_the_navigation_become_pages(sources):
    nav = tomllib.loads(expanded(sources))["project"]["nav"]
    names = list(nav_pages(nav))
    assert not any("*" in name for name in names) and len(names) == len(set(names))
    api = [name for name in names if name.startswith("api/")]
    assert api[0] == "api/index.md" and set(api) == {f"api/{name}" for name, _ in api_pages(ROOT)}


def test_a_link_leads_where_its_page_is_on_the_site():
    places, more = site_places(ROOT) | {"api/kd.interfaces.md": "api/kd.interfaces.md"}, set()

    def turned(text: str, source: str) -> str:
        return with_links(text, source, places, more)

    assert turned("[a](docs/reliability.md#x), ![b](docs/images/no.png)", "README.md") == (
        "[a](reliability.md#x), ![b](docs/images/no.png)"
    )
    assert turned("[a](../README.md) [b](../kd/interfaces.py) [c](../kd)", "docs/scale.md") == (
        "[a](index.md) [b](api/kd.interfaces.md) c"
    )
    assert turned("[a](../docs/scale.md) [b](https://example.org/a.md)", "experiments/width.md") == (
        "[a](../scale.md) [b](https://example.org/a.md)"
    )
    code = "`[a](docs/scale.md)`\n```\n[a](docs/scale.md)\n```"
    assert turned(code, "README.md") == code and not more
    assert turned("[a](LICENSE)", "README.md") == "[a](LICENSE)" and more == {"LICENSE"}


def test_lists_are_those_of_github():
    text = "Some:\n- a\n  more\n- b\n\nEnd.\n1. c\n\n   ```sh\n   ls\n   ```\n2. d"
    assert with_links(text, "README.md", {"README.md": "index.md"}, set()) == (
        "Some:\n\n- a\n    more\n- b\n\nEnd.\n\n1. c\n\n    ```sh\n    ls\n    ```\n\n2. d"
    )


def test_what_leads_nowhere_is_found_in_the_built_site(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h1 id="top">A</h1><a href="../#here">b</a>')
    wrong = '<a href="a/#top"></a><a href="a/#no"></a><img src="no.png"><a href="https://x.org/">c</a><p>Some:\n- a</p>'
    (tmp_path / "index.html").write_text(f'<p id="here">{wrong}')
    assert check_site(tmp_path) == [
        "index.html: a list without an empty line before it: 'Some:\\n- a'",
        "index.html: a/#no names a heading that does not exist",
        "index.html: no.png does not exist",
    ]


SOURCE = '''
"""A module."""

class Public(Base):
    """One.

    Args:
        size: of it. depth: of them.
    """

    field: int = 3

    def __init__(self, size: int, *, depth: int | None = None):
        self.size = size

    def method(self, *names: str) -> str:
        """Do."""

    def undocumented(self): ...

def function(a, b=1, /, **more):
    """Return it."""

def _private(): ...
'''


def test_an_api_page_has_signatures_and_docstrings_of_what_is_public():
    page = module_page(Module("kd.made", "kd/made.py", ast.parse(SOURCE)))
    assert page.startswith("# kd.made\n\nA module.")
    assert "class Public(Base):\n    field: int = 3\n\nPublic(size: int, *, depth: int | None = None)\n" in page
    assert "- `size`: of it.\n- `depth`: of them." in page
    assert "### Public.method" in page and "method(*names: str) -> str" in page
    assert "## function" in page and "function(a, b=1, /, **more)" in page
    assert "undocumented" not in page and "_private" not in page
