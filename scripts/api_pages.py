"""Write the pages under API: signatures and docstrings of the public names, parsed from the source without an import.

Zensical's support for mkdocstrings is preliminary and needs three more packages; the docstrings here are plain prose,
which needs no such tool.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reference.text import code, docstring, fence, prose, table

WIDTH = 88  # columns of a signature in one line
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    name: str  # kd.models.chain
    file: str  # kd/models/chain.py
    tree: ast.Module

    @property
    def page(self) -> str:
        return f"{self.name}.md"

    @property
    def about(self) -> str:
        return (ast.get_docstring(self.tree) or "").partition("\n\n")[0]


def modules(root: Path, package: str = "kd") -> list[Module]:
    """Return every public module with a docstring or a public name, in the order of their names."""
    found = []
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if parts[-1].startswith("_") and parts[-1] not in ("__init__", "__main__"):
            continue
        module = Module(name, path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        if ast.get_docstring(module.tree) or any(_public(module.tree.body)):
            found.append(module)
    return found


def api_pages(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, text): ``index.md`` and one page for each module."""
    found = modules(root)
    rows = [(f"[{code(each.name)}]({each.page})", prose(" ".join(each.about.split()))) for each in found]
    intro = "Every module with its public classes and functions, from the docstrings. Start with "
    intro += "[`kd.interfaces`](kd.interfaces.md): a batch, the outputs of a network for it, a teacher."
    yield "index.md", f"# API\n\n{intro}\n\n{table(('module', 'contents'), rows)}\n"
    for each in found:
        yield each.page, module_page(each)


def module_page(module: Module) -> str:
    parts = [f"# {module.name}", docstring(ast.get_docstring(module.tree)), f"Source: `{module.file}`"]
    for node in _public(module.tree.body):
        parts += _class(node) if isinstance(node, ast.ClassDef) else _function(node, "##")
    return "\n\n".join(filter(None, parts)) + "\n"


def _public(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"## {node.name}"
    bases = ", ".join(map(ast.unparse, node.bases))
    inits = [each for each in node.body if isinstance(each, Function) and each.name == "__init__"]
    arguments = _arguments(inits[0], is_method=True) if inits else []
    above = "".join(f"@{ast.unparse(each)}\n" for each in node.decorator_list)
    base = f"({bases})" if bases else ""
    fields = [_field(each) for each in node.body if isinstance(each, ast.AnnAssign) and _is_public(each.target)]
    head = f"{above}class {node.name}{base}"
    lines = [f"{head}:" if fields else head, *(f"    {each}" for each in fields)]
    if arguments:
        lines += ["", _call(node.name, arguments, "")]
    yield fence("\n".join(lines), "python")
    yield docstring(ast.get_docstring(node), _names(inits))
    for init in inits:
        yield docstring(ast.get_docstring(init), _names(inits))
    for each in node.body:
        if isinstance(each, Function) and not each.name.startswith("_") and ast.get_docstring(each):
            yield from _function(each, "###", node.name)


def _is_public(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and not target.id.startswith("_")


def _field(node: ast.AnnAssign) -> str:
    value = f" = {ast.unparse(node.value)}" if node.value else ""
    return f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{value}"


def _function(node: Function, level: str, owner: str = "") -> Iterator[str]:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    is_method = bool(owner) and "staticmethod" not in decorators
    title = f"{owner}.{node.name}" if owner else node.name
    yield f"{level} {title}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if "property" in decorators:
        yield fence(f"{node.name}{returns.replace(' -> ', ': ', 1)}", "python")
    else:
        shown = [each for each in decorators if each in ("classmethod", "staticmethod", "contextmanager")]
        above = "".join(f"@{each}\n" for each in shown)
        yield fence(above + _call(node.name, _arguments(node, is_method), returns), "python")
    yield docstring(ast.get_docstring(node), _names([node]))


def _names(functions: Sequence[Function]) -> list[str]:
    every = [node.args for node in functions]
    return [each.arg for args in every for each in (*args.posonlyargs, *args.args, *args.kwonlyargs)]


def _arguments(node: Function, is_method: bool) -> list[str]:
    """Return each argument as in the source, without ``self``."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    shown = [_argument(each, default) for each, default in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        shown.insert(len(args.posonlyargs), "/")
    shown = shown[1:] if is_method else shown
    if args.vararg:
        shown.append(f"*{_argument(args.vararg, None)}")
    elif args.kwonlyargs:
        shown.append("*")
    shown += [_argument(*each) for each in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return [*shown, f"**{_argument(args.kwarg, None)}"] if args.kwarg else shown


def _argument(node: ast.arg, default: ast.expr | None) -> str:
    if node.annotation is None:
        return node.arg if default is None else f"{node.arg}={ast.unparse(default)}"
    text = f"{node.arg}: {ast.unparse(node.annotation)}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _call(name: str, arguments: Sequence[str], returns: str) -> str:
    """Format a call in one line if it fits, else with one argument a line."""
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= WIDTH or not arguments:
        return line
    return "\n".join([f"{name}(", *(f"    {each}," for each in arguments), f"){returns}"])
