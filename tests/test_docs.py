"""The documents: a short README, links that lead somewhere, options and tests that exist, one word for one thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kd
from kd.report.index.ledgers import STATUSES
from tests.conftest import CONF

ROOT = Path(__file__).parents[1]
ALL = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").glob("*.md"))]
GENERATED = ("settings", "methods", "attentions", "teachers", "students", "datasets", "augments", "result-json", "cli")
MADE = {ROOT / "docs" / f"{name}.md" for name in GENERATED}  # when the site is built
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"python -m kd\.run ([^`|#\n]*)")
PATH = re.compile(r"`((?:kd|conf|tests|docs|experiments)/[\w/.-]+\.\w+)`")
TEST = re.compile(r"(?<=[`])((?:\w+/)?test_\w+\.py)?(?:::(test_\w+)(…)?)?(?=`)")
OLD_WORDS = re.compile(r"\b(twins?|(?<!memory )bank(?:s|ed)?|whoever|told|pictures?)\b", re.IGNORECASE)


def of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_one_go():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_changelog_sorts_methods_by_the_year_of_their_paper():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("of the years since 2021:")[2]
    recent, _, older = text.partition(". Those")[0].partition("; of 2020:")
    years = {}
    for name in re.findall(r"`(\w+)`", recent + older):
        first = (CONF / "kd" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        years[name] = int(re.search(r"(\d{4})\), https", first)[1])
    assert years and {name for name, year in years.items() if year == 2020} == {*re.findall(r"`(\w+)`", older)}
    assert min(years.values()) == 2020


def test_the_ledger_page_knows_every_status():
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    ledger = text.partition("### Ledger")[2].partition("###")[0]
    assert {*STATUSES} <= {*re.findall(r"`(\w+)`", ledger)}


def test_the_citation_is_of_this_version():
    assert f"\nversion: {kd.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ALL, ids=of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):  # of the web
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target in MADE:
            continue
        assert target.exists(), f"{of(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{of(page)}: {link}"


@pytest.mark.parametrize("page", ALL, ids=of)
def test_every_file_that_a_page_names_is_there(page):
    """But for those that it tells its reader to write."""
    text = page.read_text(encoding="utf-8")
    named, written = set(PATH.findall(text)), set(re.findall(r"`([\w/.]+)`(?:, whose [^\n]*)?:\n\n```", text))
    assert not [name for name in sorted(named - written) if not (ROOT / name).is_file()]


@pytest.mark.parametrize("page", ALL, ids=of)
def test_every_option_that_a_command_names_exists(page):
    """Those that the pages under Extending add come with the page."""
    text = page.read_text(encoding="utf-8")
    added = re.findall(r"`conf/([\w/]+)\.yaml`", text)
    for command in COMMAND.findall(text):
        for group, value in re.findall(r"(?<!\S)((?:hydra/)?\w+)=([\w,]+)", command):
            if not (CONF / group).is_dir() or value.isupper():  # a setting; a name to put in
                continue
            for option in value.split(","):
                known = (CONF / group / f"{option}.yaml").is_file() or f"{group}/{option}" in added
                teaches = group == "teacher" and (CONF / "student" / f"{option}.yaml").is_file()
                assert known or teaches or (group, option) == ("kd", "combine"), f"{of(page)}: {command}"


def test_every_test_that_reliability_names_is_there():
    files = list((ROOT / "tests").rglob("test_*.py"))
    found = []
    for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines():
        last = ""
        for name, test, cut in TEST.findall(line):
            name = last = name or last
            if not name:
                continue
            found.append(name)
            folder, _, file = name.rpartition("/")
            named = [path for path in files if path.name == file and folder in ("", path.parent.name)]
            assert named, f"there is no {name}"
            wanted = f"def {test}" if cut else f"def {test}("
            assert not test or any(wanted in path.read_text(encoding="utf-8") for path in named), f"{name}::{test}"
    assert len(found) > 80


@pytest.mark.parametrize("page", [page for page in ALL if page.name not in ("CHANGELOG.md", "SECURITY.md")], ids=of)
def test_one_thing_has_one_word(page):
    """docs/concepts.md has the words."""
    assert not OLD_WORDS.findall(re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8")))
