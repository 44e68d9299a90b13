"""Write the page of the commands from the ``--help`` of each."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from reference.text import fence, prose

WIDTH = "100"  # columns of argparse's text


def cli_page(intro: str, root: Path, help_of: Callable[[str], str]) -> str:
    parts = [intro]
    for module, about in commands(root):
        text = help_of(module).strip().replace(str(root), "…")
        parts += [f"## python -m {module}", prose(about), fence(normalized(text))]
    return "\n\n".join(parts)


def commands(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, the first line of its docstring) of each module for ``python -m``, ``kd.run`` first."""
    found = {}
    for path in sorted([*(root / "kd").glob("*.py"), *(root / "kd").glob("*/__main__.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__main__")
            found[module] = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    yield from sorted(found.items(), key=lambda item: (item[0] != "kd.run", item[0]))


def environment(root: Path) -> dict[str, str]:
    """Return the environment for the commands, without variables that change their output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "WANDB_", "COLUMNS"))}
    return {**kept, "COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"}


def ask(module: str, root: Path) -> str:
    """Run ``python -m module --help`` in an empty folder and return its output."""
    command = [sys.executable, "-m", module, "--help"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment(root), capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def normalized(text: str) -> str:
    """Remove trailing blanks, and write ``-n N, --number N`` as Python 3.13 does."""
    text = re.sub(r"(?m)^( +-\w) (\S+), (--[\w-]+) \2", r"\1, \3 \2", text)
    return "\n".join(line.rstrip() for line in text.splitlines())
