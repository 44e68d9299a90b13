"""Build the site of the documentation: ``pip install -e ".[docs]" && python scripts/build_site.py``.

The script copies the pages of docs/, experiments/ and the root to build/docs, with links that fit the site, writes the
API pages beside them, and runs Zensical there. It fails on a broken link, anchor or image, on a page that the
navigation lacks, and on one that the navigation names and that does not exist.

Open site/index.html as a file, or serve it: ``python -m http.server -d site``. It contacts no other server.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_pages import api_pages
from site_links import check_site

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # files of the root, and their places on the site
    "README.md": "index.md",
    "SECURITY.md": "SECURITY.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
FOLDERS = {"docs": "", "experiments": "experiments/"}  # folders, and their places on the site
LINK = re.compile(r"""(\]\(\s*<?|\b(?:src|href)=["'])([^)\s"'>]+)""")
TO_FOLDER = re.compile(r"(?<![!\\])\[([^\[\]]*)\]\(([^)\s#]+)\)")
ITEM = re.compile(r"[-*] |\d\. ")
FENCE = re.compile(r"^ {0,3}(```|~~~)")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")


def main() -> int:
    build = ROOT / "build" / "docs"
    shutil.rmtree(build, ignore_errors=True)
    write_sources(build / "docs")
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    if wrong := check_nav(config["project"]["nav"], build / "docs"):
        return refuse(wrong)
    (build / "zensical.toml").write_text(expanded(build / "docs"), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(build / "zensical.toml")]
    done = subprocess.run(command, cwd=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:  # Zensical colours every letter of its warnings, and ends them with a traceback
        return refuse([re.sub(r"\x1b\[[\d;]*m", "", done.stdout).partition("Traceback")[0]])
    if wrong := check_site(build / "site"):
        return refuse(wrong)
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    shutil.move(build / "site", ROOT / "site")
    print(f"site/index.html: {len(list(nav_pages(tomllib.loads(expanded(build / 'docs'))['project']['nav'])))} pages")
    return 0


def refuse(wrong: list[str]) -> int:
    print("\n".join(wrong), file=sys.stderr)
    return 1


def write_sources(folder: Path) -> None:
    """Write all files that Zensical reads."""
    api = dict(api_pages(ROOT))
    places = site_places(ROOT) | {f"api/{name}": f"api/{name}" for name in api}
    for name, text in api.items():
        _write(folder / "api" / name, text)
    more: set[str] = set()  # files that a page links to and that are not pages
    for source, place in site_places(ROOT).items():
        if place.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            _write(folder / place, with_links(text, source, places, more))
        else:
            _copy(ROOT / source, folder / place)
    for source in more:
        _copy(ROOT / source, folder / source)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def site_places(root: Path) -> dict[str, str]:
    """Return the files of the repository on the site: {path: path on the site}, both with /."""
    found = {source: place for source, place in PAGES.items() if (root / source).is_file()}
    for folder, place in FOLDERS.items():
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(root / folder).as_posix()
                found[f"{folder}/{name}"] = place + ("index.md" if name == "README.md" else name)
    return found


def with_links(text: str, source: str, places: dict[str, str], more: set[str]) -> str:
    """Return a page for the site: with other links, an empty line before each list, and four spaces inside.

    GitHub begins a list right after a paragraph, and aligns the lines of an item with its first word; Python's Markdown
    needs the empty line and four spaces.

    Args:
        source: the page's path in the repository. places: the result of ``site_places``.
        more: the function adds the files that the page links to and that are not pages.
    """
    lines, fence, pad, has_paragraphs = [""], "", "", False
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            kept = [match.span() for match in CODE.finditer(line)]

            def turn(match: re.Match, kept: list[tuple[int, int]] = kept) -> str:
                inside = any(start <= match.start() < end for start, end in kept)
                return match[0] if inside else match[1] + turned(match[2], source, places, more)

            line = LINK.sub(turn, TO_FOLDER.sub(lambda match: _folder(match, source, places), line))
            item = ITEM.match(line)
            if item and lines[-1] and (not pad or has_paragraphs):
                lines.append("")
            has_paragraphs = bool(pad) and (has_paragraphs or not line)
            if item or (line and not line.startswith(" ")):
                pad = " " * (4 - len(item[0])) if item else ""
        lines.append(pad + line if line.startswith("  ") else line)
    return "\n".join(lines[1:])


def _folder(match: re.Match, source: str, places: dict[str, str]) -> str:
    """Return the text of a link to a folder without a page; any other link as it is."""
    target = _target(match[2], source)
    is_folder = (ROOT / target).is_dir() and not _place(target, places) and ":" not in match[2]
    return match[1] if is_folder else match[0]


def _target(path: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def _place(target: str, places: dict[str, str]) -> str | None:
    """Return the place of a target on the site: a page, a folder's README, a module or a package's folder."""
    api = f"api/{target.removesuffix('.py').replace('/', '.')}.md"
    return places.get(target) or places.get(f"{target}/README.md") or places.get(api)


def turned(link: str, source: str, places: dict[str, str], more: set[str]) -> str:
    """Return a link of the repository as a link of the site; a broken link stays as it is."""
    path, mark, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:|/", path):
        return link
    target = _target(path, source)
    place = _place(target, places)
    if place is None:
        if not (ROOT / target).is_file():
            return link
        more.add(target)
        place = target
    here = posixpath.dirname(places[source])
    return posixpath.relpath(place, here or ".") + mark + anchor


def check_nav(nav: list[Any], docs: Path) -> list[str]:
    """Return a line for each page of the navigation that does not exist, and for each page that it lacks."""
    listed = {
        name for pattern in nav_pages(nav) for name in ([pattern] if "*" not in pattern else _match(docs, pattern))
    }
    existing = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    wrong = [f"zensical.toml: nav names {name}, which does not exist" for name in sorted(listed - existing)]
    return wrong + [f"zensical.toml: nav lacks {name}" for name in sorted(existing - listed)]


def nav_pages(node: Any) -> Iterator[str]:
    """Yield every file or pattern of a navigation."""
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nav_pages(child)


def _match(docs: Path, pattern: str) -> list[str]:
    """Return the pages that match a pattern, the index first."""
    found = sorted(path.relative_to(docs).as_posix() for path in docs.glob(pattern))
    return sorted(found, key=lambda name: not name.endswith("/index.md"))


def expanded(docs: Path) -> str:
    """Return ``zensical.toml`` with pages in place of patterns; the API has a section for each package."""
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")

    def pages(match: re.Match) -> str:
        names = _match(docs, match[1])
        return _sections(names) if match[1].startswith("api/") else json.dumps(names)

    return re.sub(r'"([\w/]+\*[\w.]*)"', pages, text)


def _sections(names: list[str]) -> str:
    """Format the API's pages as a tree, a module below its package. TOML's strings and lists are JSON's."""
    modules = {name.removeprefix("api/").removesuffix(".md"): name for name in names if not name.endswith("/index.md")}
    packages = {module.rpartition(".")[0] for module in modules} - {""}

    def below(package: str) -> str:
        parts = [f'"{modules[package]}"'] if package in modules else []
        depth = package.count(".") + 1
        children = {".".join(module.split(".")[: depth + 1]) for module in modules if module.startswith(f"{package}.")}
        for child in sorted(children, key=lambda name: (name in packages, name)):
            title = json.dumps(child.rpartition(".")[2])
            parts.append(
                f"{{ {title} = {below(child)} }}" if child in packages else f'{{ {title} = "{modules[child]}" }}'
            )
        return f"[{', '.join(parts)}]"

    tops = sorted({module.split(".")[0] for module in modules})
    inner = ", ".join(below(top)[1:-1] for top in tops)
    return f'["api/index.md", {inner}]'


if __name__ == "__main__":
    sys.exit(main())
