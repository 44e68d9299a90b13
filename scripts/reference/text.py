"""Format comments and docstrings as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
LINK = re.compile(r"<?(https?://[^\s<>]*[^\s<>.,;:)])>?")
# a setting with its value, a command, a file of the repository: code wherever they occur in a comment
WORD = re.compile(
    r"(?<![\w`/.])("
    r"(?:python -m [\w.]+|[A-Za-z][\w./@]*=(?!=)[^\s,;:()]*[^\s,;:().])"
    r"|(?:kd|conf|docs|tests|experiments|outputs)(?:/[\w.*<>{}-]+)+[\w>}]/?"
    r"|[a-z]\w*(?:\.[a-z_]\w*)+(?![\w(])"
    r"|[a-z]\w*_\w+)"
)
PARAGRAPH = re.compile(r"(Costs?|Defaults?|Expect|As found|Needs)\b")
FILE = re.compile(r"(?:kd|conf|docs|tests|experiments)/[\w./-]+|[\w-]+\.(?:py|md|yaml|json)")


def escape(text: str) -> str:
    """Escape the characters that Markdown would interpret."""
    return re.sub(r"([\\*_\[\]|])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def prose(text: str, words: bool = False) -> str:
    """Format a comment or a paragraph of a docstring: code and links stay, everything else is escaped.

    Args:
        words: format settings, commands and files without backticks as code too, as for a yaml comment.
    """
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [_plain(text[end : match.start()], words), code(match[2])]
        end = match.end()
    return "".join([*parts, _plain(text[end:], words)])


def _plain(text: str, words: bool) -> str:
    parts, end = [], 0
    for match in LINK.finditer(text):
        parts += [_words(text[end : match.start()], words), f"<{match[1]}>"]
        end = match.end()
    return "".join([*parts, _words(text[end:], words)])


def _words(text: str, words: bool) -> str:
    if not words:
        return escape(text)
    parts = WORD.split(text)
    return "".join(code(part) if k % 2 else escape(part) for k, part in enumerate(parts))


def code(text: Any) -> str:
    """Format inline code, also for text with a backtick."""
    one_line = " ".join(str(text).split())
    fence = "``" if "`" in one_line else "`"
    return f"{fence}{one_line}{fence}"


def cell(text: str) -> str:
    """Format a cell of a table; a bar would end it, in code too."""
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def remarks(lines: Sequence[str]) -> str:
    """Format the header comment of a yaml: paragraphs at "Costs", "Defaults", "Expect"; indented commands as code."""
    blocks: list[list[str]] = []
    for line in lines:
        indented = line.startswith("  ")
        is_new = not blocks or indented != blocks[-1][0].startswith("  ") or PARAGRAPH.match(line)
        blocks += [[line]] if is_new else []
        blocks[-1] += [] if is_new else [line]
    shown = []
    for block in blocks:
        if block[0].startswith("  "):
            shown.append(fence("\n".join(line.strip() for line in block), "sh"))
            continue
        text = prose(" ".join(block), words=True)
        shown.append(PARAGRAPH.sub(r"**\1**", text, count=1) if PARAGRAPH.match(text) else text)
    return "\n\n".join(shown)


def fence(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


SECTION = re.compile(r"(Args|Returns|Yields|Raises):\s*$")


def docstring(text: str | None, names: Sequence[str] = ()) -> str:
    """Format the body of a docstring: paragraphs, lists, and the sections "Args:" and so on with an item for each name.

    Args:
        names: of the parameters, to find those that share a line: ``size: of it. classes: of them.``
    """
    lines = (text or "").strip().splitlines()
    blocks: list[str] = []
    k = 0
    while k < len(lines):
        line = lines[k]
        end = k + 1
        if section := SECTION.match(line):
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
                end += 1
            blocks.append(f"**{section[1]}**\n\n{_section(lines[k + 1 : end], names)}")
        elif not line.strip():
            pass
        elif line.startswith(("- ", "* ")):
            while end < len(lines) and (lines[end].startswith(("- ", "* ", "  ")) or not lines[end].strip()):
                end += 1
            items = re.split(r"\n(?=[-*] )", "\n".join(lines[k:end]).strip())
            blocks.append("\n".join(f"- {prose(' '.join(item[2:].split()))}" for item in items))
        elif line.startswith("    "):
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            blocks.append(fence("\n".join(each[4:] for each in lines[k:end]).rstrip()))
        else:
            while end < len(lines) and lines[end].strip() and not SECTION.match(lines[end]):
                if lines[end].startswith(("- ", "* ", "    ")):
                    break
                end += 1
            blocks.append(prose(" ".join(each.strip() for each in lines[k:end])))
        k = end
    return "\n\n".join(blocks)


NAMES = re.compile(r"((?:\*{0,2}[\w.]+(?:, )?)+): ")  # "size, classes: "


def _section(lines: Sequence[str], names: Sequence[str]) -> str:
    entries: list[str] = []
    for line in lines:
        text = line.strip()
        if text and (not entries or (len(line) - len(line.lstrip()) == 4 and NAMES.match(text))):
            entries.append(text)
        elif text:
            entries[-1] += f" {text}"
    if names:
        either = "|".join(map(re.escape, names))
        begins = re.compile(rf"(?<=[.;)]) (?=(?:{either})(?:, (?:{either}))*: )")
        entries = [part for entry in entries for part in begins.split(entry)]
    shown = []
    for entry in entries:
        named = NAMES.match(entry)
        shown.append(f"- {code(named[1])}: {prose(entry[named.end() :])}" if named else f"- {prose(entry)}")
    return "\n".join(shown)
