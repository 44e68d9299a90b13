"""Build the site of the documentation: ``pip install -e ".[docs]" && python scripts/build_site.py``.

The pages of docs/, experiments/ and the root are copied to build/docs with their links turned to where the pages are on
the site, the API pages are written beside them, and Zensical builds the site from there. It fails on a link, an
anchor or an image that leads nowhere, on a page that the navigation lacks and on one that it names and nobody wrote.

Open site/index.html as a file, or serve it: ``python -m http.server -d site``. It asks no other server.
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
PAGES = {  # of the root, and where they are on the site
    "README.md": "index.md",
    "SECURITY.md": "SECURITY.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
FOLDERS = {"docs": "", "experiments": "experiments/"}  # and where their files are on the site
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
    if done.returncode:  # its warnings colour every letter, and a traceback of its own ends them
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
    """Write everything that Zensical reads."""
    api = dict(api_pages(ROOT))
    places = site_places(ROOT) | {f"api/{name}": f"api/{name}" for name in api}
    for name, text in api.items():
        _write(folder / "api" / name, text)
    more: set[str] = set()  # files that a page links to and that are no pages
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
    """Every file of the repository that the site has: its path -> its path on the site, both with /."""
    found = {source: place for source, place in PAGES.items() if (root / source).is_file()}
    for folder, place in FOLDERS.items():
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(root / folder).as_posix()
                found[f"{folder}/{name}"] = place + ("index.md" if name == "README.md" else name)
    return found


def with_links(text: str, source: str, places: dict[str, str], more: set[str]) -> str:
    """A page as the site reads it: links turned, lists with an empty line before them and four blanks in them.

    GitHub begins a list right after a paragraph, and aligns what belongs to an item with its first word; Python's
    Markdown wants the empty line, and four blanks.

    Args:
        source: the page's path in the repository. places: as ``site_places`` says.
        more: grows by the files that are linked to and are no pages.
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
    """A link to a folder that has no page, as its words alone."""
    target = _target(match[2], source)
    is_folder = (ROOT / target).is_dir() and not _place(target, places) and ":" not in match[2]
    return match[1] if is_folder else match[0]


def _target(path: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def _place(target: str, places: dict[str, str]) -> str | None:
    """Where on the site that is: a page, a folder's README, a module or a package's folder."""
    api = f"api/{target.removesuffix('.py').replace('/', '.')}.md"
    return places.get(target) or places.get(f"{target}/README.md") or places.get(api)


def turned(link: str, source: str, places: dict[str, str], more: set[str]) -> str:
    """A link as it leads on the site to what it leads to in the repository; what leads nowhere stays as it is."""
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
    """What the navigation has and is not there, and what is there and not in the navigation."""
    listed = {
        name for pattern in nav_pages(nav) for name in ([pattern] if "*" not in pattern else _match(docs, pattern))
    }
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    wrong = [f"zensical.toml: nav names {name}, which is not there" for name in sorted(listed - there)]
    return wrong + [f"zensical.toml: nav lacks {name}" for name in sorted(there - listed)]


def nav_pages(node: Any) -> Iterator[str]:
    """Every file or pattern of a navigation."""
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nav_pages(child)


def _match(docs: Path, pattern: str) -> list[str]:
    """What a pattern stands for, the index first."""
    found = sorted(path.relative_to(docs).as_posix() for path in docs.glob(pattern))
    return sorted(found, key=lambda name: not name.endswith("/index.md"))


def expanded(docs: Path) -> str:
    """``zensical.toml`` with every pattern of the navigation replaced by its pages, the API's a section a package."""
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")

    def pages(match: re.Match) -> str:
        names = _match(docs, match[1])
        return _sections(names) if match[1].startswith("api/") else json.dumps(names)

    return re.sub(r'"([\w/]+\*[\w.]*)"', pages, text)


def _sections(names: list[str]) -> str:
    """The API's pages as a tree: a module below its package. TOML's strings and lists are JSON's."""
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
