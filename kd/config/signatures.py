"""Signatures of classes and functions, read from their source: importing them may take seconds."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kd.config.rules import ANYTHING, FLAG, LINE, MAPPING, NULL, Rule, any_of, list_of, number, whole


class Signature(NamedTuple):
    """Arguments of a callable."""

    takes: dict[str, Rule]
    needs: frozenset[str]  # arguments without a default
    open: bool  # whether it takes any keyword


@cache
def signature_of(target: str) -> Signature | None:
    """Read the signature of a dotted name from its source, without an import; None if the source does not show it."""
    module, _, name = target.rpartition(".")
    path = source_of(module)
    try:
        body = ast.parse(path.read_bytes()).body if path else []
    except (OSError, SyntaxError, ValueError):  # importing it reports the error
        return None
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_arguments(node.args)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node)
        if isinstance(node, ast.ImportFrom) and not node.level and name in [a.asname or a.name for a in node.names]:
            (original,) = [alias.name for alias in node.names if (alias.asname or alias.name) == name]
            return signature_of(f"{node.module}.{original}")
    return None


def source_of(module: str) -> Path | None:
    """Return the source file of a module, or None."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _of_class(node: ast.ClassDef) -> Signature | None:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return _of_arguments(inner.args, skip=1)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [
            inner for inner in node.body if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
        ]
        takes = {field.target.id: rule_of(field.annotation) for field in fields}
        return Signature(takes, frozenset(field.target.id for field in fields if field.value is None), False)
    return None


def _of_arguments(arguments: ast.arguments, skip: int = 0) -> Signature:
    plain = [*arguments.posonlyargs, *arguments.args]
    count = len(plain) - len(arguments.defaults)
    needs = [argument.arg for argument in plain[skip:count]]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    needs += [argument.arg for argument, default in named if default is None]
    takes = {argument.arg: rule_of(argument.annotation) for argument in [*plain[skip:], *arguments.kwonlyargs]}
    return Signature(takes, frozenset(needs), arguments.kwarg is not None)


TYPES = {"int": whole(), "float": number(), "bool": FLAG, "str": LINE, "Mapping": MAPPING, "dict": MAPPING}
LISTS = ("Sequence", "list", "tuple", "Iterable")


def rule_of(annotation: ast.expr | None) -> Rule:
    """Return the rule of a type: ``int``, ``float | None``, ``Sequence[int]``; ANYTHING for other types."""
    if isinstance(annotation, ast.BinOp):
        both = [rule_of(side) for side in (annotation.left, annotation.right) if ast.unparse(side) != "Tensor"]
        return ANYTHING if ANYTHING in both else both[0] if len(both) == 1 else any_of(both)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return NULL
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        name = annotation.value.id
        return list_of(rule_of(annotation.slice)) if name in LISTS else TYPES.get(name, ANYTHING)
    return TYPES.get(annotation.id, ANYTHING) if isinstance(annotation, ast.Name) else ANYTHING
