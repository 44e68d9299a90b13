"""Check a built site for broken links, anchors, images and scripts.

Zensical's strict build checks Markdown's links alone: not images, raw HTML or the pages of its navigation.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

NO_LIST = re.compile(r"\n(?:[-*]|\d+\.) ")  # in a paragraph: a list without an empty line before it


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.broken: list[str] = []
        self._paragraph: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        if tag == "p":
            self._paragraph = []

    def handle_data(self, data: str) -> None:
        if self._paragraph is not None:
            self._paragraph.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._paragraph is not None:
            text = "".join(self._paragraph)
            self.broken += [text[:60]] if NO_LIST.search(text) else []
            self._paragraph = None


def check_site(folder: Path) -> list[str]:
    """Return a line for each error."""
    files = sorted(path for path in folder.rglob("*.html") if path.is_file())  # kd/report/html.py has a folder
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    wrong = []
    for path, page in pages.items():
        where = path.relative_to(folder).as_posix()
        wrong += [f"{where}: a list without an empty line before it: {text!r}" for text in page.broken]
        if path.name == "404.html":  # a server shows it at any address, so its links begin at the server's root
            continue
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                wrong.append(f"{where}: {link} does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{where}: {link} names a heading that does not exist")
    return wrong
