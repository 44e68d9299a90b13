"""What settings may be, and who reads them: told of plain values, before anything is imported or made.

A setting is read when the constructor of its page takes it (``PAGES``), when the program does (``READ``, ``MAY_STAND``)
or when another one that is read refers to it, ``${kd.temperature}``. Whatever else stands in a config is refused.
A setting that the program begins to read gets its line here.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kd.search import directions

TWIN = "the twin learns from labels alone: kd@twin=supervised or kd@twin=label_smoothing"
AUTO = 64  # images of a batch where train.batch_size=auto
Tree = Mapping[str, Any]
HYDRAS_OWN = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


class Rule(NamedTuple):
    """What a value must be: in words, behind "must be", and as a test."""

    right: str
    good: Callable[[Any], bool]
    parts: bool = False  # whether what is inside has rules of its own


def number(least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf) -> Rule:
    """A finite number, from ``least`` to ``most``, ``above`` and ``below`` themselves left out."""

    def good(value: Any) -> bool:
        return is_number(value) and least <= value <= most and above < value < below

    return Rule(f"a number{_span(least, most, above, below)}", good)


def whole(least: float = -math.inf, most: float = math.inf) -> Rule:
    """A whole number."""

    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Rule(f"a whole number{_span(least, most, -math.inf, math.inf)}", good)


def _span(least: float, most: float, above: float, below: float) -> str:
    if max(least, above) == -math.inf:
        return "" if min(most, below) == math.inf else f" of {most:g} or less"
    if min(most, below) == math.inf:
        return f" above {above:g}" if above > least else f" of {least:g} or more"
    low = f"({above:g}" if above > least else f"[{least:g}"
    high = f"{below:g})" if below < most else f"{most:,}]" if isinstance(most, int) and most > 9999 else f"{most:g}]"
    return f" in {low}, {high}"


def is_number(value: Any) -> bool:
    """Whether this is a finite number; true and false are none, though Python counts them among the whole numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def one_of(*choices: str) -> Rule:
    return Rule(f"{', '.join(choices[:-1])} or {choices[-1]}", lambda value: value in choices)


def or_null(rule: Rule) -> Rule:
    return any_of([rule, NULL])


def list_of(rule: Rule, count: int | None = None) -> Rule:
    def good(value: Any) -> bool:
        return isinstance(value, list) and count in (None, len(value)) and all(map(rule.good, value))

    return Rule(f"a list{f' of {count}' if count else ''}, each {rule.right}", good)


def any_of(rules: Sequence[Rule]) -> Rule:
    right = ", or ".join(rule.right for rule in rules)
    return Rule(right, lambda value: any(rule.good(value) for rule in rules), any(rule.parts for rule in rules))


def is_line(value: Any) -> bool:
    """Whether this is text in one line that can be written down."""
    return (
        isinstance(value, str)
        and bool(value)
        and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value)
    )


def _is_place(value: Any, there: Callable[[Path], bool]) -> bool:
    try:
        return is_line(value) and there(Path(value).expanduser())
    except (OSError, RuntimeError, ValueError):  # too long a name, a home that nobody has
        return False


ANYTHING = Rule("anything", lambda value: True)
NULL = Rule("null", lambda value: value is None)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
LINE = Rule("text in one line", is_line)  # a number is text when it is quoted: data.train_dir='"2024"'
LIST = Rule("a list", lambda value: isinstance(value, list))
MAPPING = Rule("a mapping, {name: value}", lambda value: isinstance(value, Mapping))
NAMED = Rule(MAPPING.right, MAPPING.good, parts=True)
PAGE = Rule("settings with a _target_", lambda value: is_page(value), parts=True)
FOLDER = Rule("a folder that is there", lambda value: _is_place(value, Path.is_dir))
FILE = Rule("a file that is there", lambda value: _is_place(value, Path.is_file))
NAME = Rule("the name of a folder, without /", lambda v: is_line(v) and "/" not in v and v not in (".", ".."))
DEVICE = Rule(
    "auto, cuda, cuda:0, mps or cpu",
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d\d?)?", v)),
)
SEED = Rule("a whole number of 0 or more, up to 2^53", whole(0, 2**53).good)
SHARE = number(0, 1)
PART = number(0, below=1)

# Read by the program itself, and there in every run. ``*`` stands for any name.
READ: dict[str, Rule] = {
    "seed": SEED,
    "baseline": FLAG,
    "latency.batch": whole(1, 65_536),
    "latency.seconds": number(0, 3600),
    "report": FLAG,
    "objective": any_of([LINE, list_of(LINE)]),
    "sweep": or_null(NAME),
    "outputs": LINE,
    "data.augment": PAGE,
    "attention.stages": or_null(list_of(whole(0))),
    "attention.published_but_unused": MAPPING,
    "teacher.seed": SEED,
    "teacher.mean": or_null(list_of(SHARE, 3)),
    "teacher.std": or_null(list_of(number(above=0, most=1), 3)),
    "teacher.ensemble": LIST,
    "teacher.combine": one_of("probabilities", "log_mean_exp", "logits"),
    "teacher.source": one_of("auto", "live", "bank"),
    "teacher.checkpoint": or_null(FILE),
    "teacher.allow_weak": FLAG,
    "train.pieces": whole(1, 4096),
    "train.batch_size": any_of([whole(2), Rule("auto", lambda value: value == "auto")]),
    "train.device": DEVICE,
    "train.precision": one_of("auto", "float32", "bfloat16"),
    "train.channels_last": FLAG,
    "train.compile": FLAG,
    "train.threads": or_null(whole(1, 1024)),
    "train.checkpoint_minutes": number(above=0),
    "train.student.label_smoothing": PART,
    "tracking.mode": one_of("offline", "online", "disabled"),
    "tracking.group": or_null(LINE),
    "kd.terms": any_of([NAMED, LIST]),
    "twin.terms": NAMED,
}
# Read where they stand.
MAY_STAND: dict[str, Rule] = {
    "tracking.project": LINE,
    "tracking.entity": or_null(LINE),
    "tracking.tags": list_of(LINE),
    "tracking.timeout": number(above=0, most=3600),
    "tracking.system_stats": FLAG,
}
# The same of kd, of twin and of each method that kd=combine lists.
OF_A_METHOD: dict[str, Rule] = {
    "weights": NAMED,
    "weights.*": number(0),
    "schedule": or_null(NAMED),
    "schedule.*": NAMED,
    "schedule.*.start": SHARE,
    "schedule.*.end": SHARE,
    "schedule.*.rise": number(0),
    "assistants": LIST,
}
# Pages: whoever is named by their _target_ takes their settings, and gets this from the program beside them.
NETWORK = ("num_classes", "image_size")
PAGES: dict[str, Sequence[str]] = {
    "data": ("store",),
    "attention.wrap": ("stage", "channels"),
    "student": NETWORK,
    "teacher.network": NETWORK,
    "train.teacher": (),
    "train.student": (),
}
# What our own constructors refuse, to be told before they are imported: by name, where a name means one thing.
OURS: dict[str, Rule] = {
    "temperature": number(above=0),
    "temperatures": list_of(number(above=0)),
    "stages": or_null(list_of(whole(most=-1))),
    "label_smoothing": PART,
    "dropout": PART,
    "width": number(above=0),
    "stem": one_of("auto", "small", "large"),
    "epochs": whole(1),
    "lr": number(above=0),
    "weight_decay": number(0),
    "momentum": PART,
    "warmup": PART,
    "mixup": SHARE,
    "clip_norm": or_null(number(above=0)),
    "ema": or_null(number(above=0, below=1)),
    "image_size": whole(8, 4096),
    "seed": SEED,
    "drawing_seed": SEED,
    "val_fraction": number(above=0, below=1),
    "test_fraction": number(above=0, below=1),
    "label_noise": PART,
    "root": or_null(FOLDER),
    "on_bad_file": one_of("error", "skip"),
    "on_leak": one_of("warn", "error"),
    "flip": SHARE,
    "shift": SHARE,
    "zoom": number(0, 0.9),
    "turn": number(0, 180),
    "light": SHARE,
    "negatives": whole(1, 2**24),
    "dim": whole(1, 65_536),
    "channels": any_of([whole(1, 65_536), list_of(whole(1, 65_536))]),
}


def check_keys(raw: Tree, typed: Iterable[str] = (), hydra: Tree | None = None) -> None:
    """Refuse what is not there and what nobody reads.

    Args:
        raw: the config as it was composed, interpolations as they are written. typed: keys of the command line.
        hydra: Hydra's own part, which may refer to ours.

    Raises:
        ValueError: with the key, and the nearest one that is read.
    """
    _check_twin(raw)
    for key in [*READ, *(f"{owner}.weights" for owner in _methods(raw)), *PAGES]:
        if missing(raw, key):
            raise ValueError(_absent(raw, key))
    for key, node, _ in pages(raw):
        signature = signature_of(node["_target_"])
        for name in sorted(signature.needs - {*node, *_given(key)} if signature else ()):
            raise ValueError(f"{key}.{name} is not there: {node['_target_']} needs it")
    alive = {key: not (rule.parts and isinstance(at(raw, key), Mapping)) for key, rule in uses(raw)}
    waiting = [*alive, "hydra"]
    for key in waiting:  # grows while it is walked
        found = [own for own in references(hydra if key == "hydra" else at(raw, key), key) if not alive.get(own)]
        alive |= dict.fromkeys(found, True)
        waiting += found
    spared, typed = _unlisted(raw), tuple(typed)
    for key, _ in leaves(raw):
        if not any(within(key, own) for own, whole in alive.items() if whole):
            aside = any(within(key, own) for own in spared)
            if not aside or any(within(key, own) for own in typed):
                hint = near(key, typable(raw))
                if aside:
                    hint = f": kd.terms lists {', '.join(map(str, raw['kd']['terms']))}"
                elif overruled := [own for own in typed if own != key and own.endswith(f".{key.rpartition('.')[2]}")]:
                    hint = f" since {overruled[0]} was said in its place"
                if within(key, "experiment"):
                    hint = ": the first line of an experiment's page is '# @package _global_'"
                raise ValueError(f"{key} is read by nothing{hint}")


def check_values(raw: Tree, settings: Tree) -> None:
    """Refuse values that cannot be.

    Args:
        raw: as of ``check_keys``. settings: the same, resolved.

    Raises:
        ValueError: with the key as it is typed, the value, and what would be right.
    """
    _check_twin(raw)
    for key, rule in uses(raw):
        value = at(settings, key)
        if not rule.good(value):
            own = typed_as(raw, key)
            text = is_number(value) and rule.good(str(value))
            hint = f"; text is quoted, '{own}=\"{value}\"'" if text else ""
            raise ValueError(f"{own} must be {rule.right}, got {shown(value)}{hint}")
    pieces, images = settings["train"]["pieces"], settings["train"]["batch_size"]
    most = (AUTO if images == "auto" else images) // 2
    if pieces > most:
        raise ValueError(f"train.pieces must be {most} or less, so that each has 2 images of a batch, got {pieces}")
    objective, batch = settings["objective"], settings["latency"]["batch"]
    for name in [objective] if isinstance(objective, str) else objective:
        directions(name)
        measured = next((part for part in name.split(".") if part.startswith("batch_")), f"batch_{batch}")
        if measured not in ("batch_1", f"batch_{batch}"):
            raise ValueError(f"objective={name}: latency is measured at batch_1 and batch_{batch} (latency.batch)")
    if not objective:
        raise ValueError("objective must name a number of a student, got an empty list")


def _check_twin(raw: Tree) -> None:
    if "twin" in raw and not isinstance(at(raw, "twin.terms"), Mapping):
        raise ValueError(TWIN)


def check_outputs(outputs: str) -> None:
    """Refuse a folder that cannot be written, by making a folder and removing it where the first one would be made.

    Raises:
        ValueError: with the folder and what the system says.
    """
    place = Path(outputs).expanduser().absolute()
    try:
        there = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
        if not there.is_dir():
            raise ValueError(f"{there} is no folder")
        os.rmdir(tempfile.mkdtemp(prefix=".kd-", dir=there))
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"outputs must be a folder that can be written, got {outputs!r}: {why}") from error


def uses(raw: Tree) -> Iterator[tuple[str, Rule]]:
    """(key, rule) of everything that is read, but for what is only referred to."""
    rules = READ | MAY_STAND
    rules |= {f"{owner}.{name}": rule for owner in _methods(raw) for name, rule in OF_A_METHOD.items()}
    if isinstance(at(raw, "kd.terms"), list):  # kd=combine
        rules["kd.hard"] = or_null(number(0))
    for pattern, rule in rules.items():
        yield from ((key, rule) for key in expand(raw, pattern))
    for key in _places(raw):
        yield key, or_null(PAGE) if key == "attention.wrap" else PAGE
    for key, node, given in pages(raw):
        signature = signature_of(node["_target_"])
        ours = OURS if node["_target_"].startswith("kd.") else {}
        for name, value in node.items():
            if is_page(value):
                continue
            if name in HYDRAS_OWN or signature is None:
                yield f"{key}.{name}", ANYTHING
            elif (signature.open or name in signature.takes) and name not in given:
                yield f"{key}.{name}", ours.get(name) or signature.takes.get(name, ANYTHING)


def pages(raw: Tree) -> Iterator[tuple[str, Tree, Sequence[str]]]:
    """(key, page, what it is given beside its settings) of all that will be made, pages inside of pages too."""
    waiting = [(key, at(raw, key), _given(key)) for key in _places(raw)]
    for key, node, given in waiting:  # grows while it is walked
        if is_page(node):
            yield key, node, given
            signature = signature_of(node["_target_"])
            known = [name for name in node if signature is None or signature.open or name in signature.takes]
            waiting += [(f"{key}.{name}", node[name], ()) for name in known]


def is_page(node: Any) -> bool:
    return isinstance(node, Mapping) and is_line(node.get("_target_"))


def _places(raw: Tree) -> list[str]:
    return [*PAGES, *(key for owner in _methods(raw) for key in expand(raw, f"{owner}.terms.*"))]


def _given(pattern: str) -> Sequence[str]:
    return PAGES.get(pattern, ())


def _methods(raw: Tree) -> list[str]:
    """Where methods stand: twin, and kd or, of kd=combine, each that it lists."""
    terms = at(raw, "kd.terms")
    if not isinstance(terms, list):
        return ["twin", "kd"]
    return ["twin", *(f"kd.{name}" for name in terms if isinstance(at(raw, f"kd.{name}"), Mapping))]


def _unlisted(raw: Tree) -> list[str]:
    """The methods that kd=combine offers and does not list."""
    if not isinstance(at(raw, "kd.terms"), list):
        return []
    offered = {f"kd.{name}" for name, node in raw["kd"].items() if isinstance(node, Mapping)}
    return sorted(offered - set(_methods(raw)))


def _absent(raw: Tree, key: str) -> str:
    group, way = key.split(".")[0], key.split(".")[:-1]
    for above in (".".join(way[:end]) for end in range(1, len(way) + 1)):
        if not missing(raw, above) and not isinstance(at(raw, above), Mapping):
            return f"{above} must be {MAPPING.right}, got {shown(at(raw, above))}"
    if group not in raw and way:
        return f"{group} is not there: choose one, {'kd@' if group == 'twin' else ''}{group}=..."
    return f"{key} is not there: say {key}=..."


class Signature(NamedTuple):
    """What a callable takes."""

    takes: dict[str, Rule]
    needs: frozenset[str]  # those without a default
    open: bool  # whether it takes others too


@cache
def signature_of(target: str) -> Signature | None:
    """Read the signature of a dotted name from its source, without importing it; None where that does not tell."""
    module, _, name = target.rpartition(".")
    path = source_of(module)
    try:
        body = ast.parse(path.read_bytes()).body if path else []
    except (OSError, SyntaxError, ValueError):  # told by who imports it
        return None
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_arguments(node.args)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node)
        if isinstance(node, ast.ImportFrom) and not node.level and name in [a.asname or a.name for a in node.names]:
            (found,) = [alias.name for alias in node.names if (alias.asname or alias.name) == name]
            return signature_of(f"{node.module}.{found}")
    return None


def source_of(module: str) -> Path | None:
    """The file of a module."""
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
    """What a type says of a plain value: ``int``, ``float | None``, ``Sequence[int]``; ANYTHING of other types."""
    if isinstance(annotation, ast.BinOp):
        both = [rule_of(side) for side in (annotation.left, annotation.right) if ast.unparse(side) != "Tensor"]
        return ANYTHING if ANYTHING in both else both[0] if len(both) == 1 else any_of(both)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return NULL
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        name = annotation.value.id
        return list_of(rule_of(annotation.slice)) if name in LISTS else TYPES.get(name, ANYTHING)
    return TYPES.get(annotation.id, ANYTHING) if isinstance(annotation, ast.Name) else ANYTHING


REFERENCE = re.compile(
    r"(?<!\\)\$\{\s*(?:oc\.(?:select|dict\.keys|dict\.values|deprecated)\s*:\s*)?([^:{},$]+?)\s*[,}]"
)
ALONE = re.compile(r"\$\{\s*([^:{}]+?)\s*\}")


def references(value: Any, key: str) -> Iterator[str]:
    """The keys that the interpolations of a value refer to; of one that is put together, ``${kd.${name}}``, its start.

    Args:
        value: text, or lists and mappings with text in them. key: where it stands.
    """
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from references(child, f"{key}.{name}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from references(child, f"{key}.{number}")
    elif isinstance(value, str):
        for found in [*REFERENCE.findall(value), *re.findall(r"\$\{([\w.]+)\.\$\{", value)]:
            yield absolute(found, key)


def absolute(reference: str, key: str) -> str:
    """``...temperature`` as seen from ``kd.terms.soft.temperature``: ``kd.temperature``."""
    name = re.sub(r"\[(\w+)\]", r".\1", reference)
    own = name.lstrip(".")
    up = len(name) - len(own)
    base = key.split(".")[:-up] if up else []
    return ".".join([*base, own])


def typed_as(raw: Tree, key: str) -> str:
    """The key at which one says what arrives at ``key``: ``kd.temperature`` for ``kd.terms.soft.temperature``.

    A key that is read for itself is not the place: what is wrong at ``teacher.stem=${sweep}`` is not ``sweep``.
    """
    known = {own for own, _ in uses(raw)}
    for _ in range(9):  # a circle is somebody else's to tell
        value = at(raw, key)
        only = ALONE.fullmatch(value) if isinstance(value, str) else None
        if only is None or absolute(only[1], key) in known:
            return key
        key = absolute(only[1], key)
    return key


def blame(raw: Tree, key: str, said: str) -> str:
    """What the constructor of the page at ``key`` said, behind the setting that it speaks of, or behind all of them."""
    page = at(raw, key)
    names = [name for name in page if name not in HYDRAS_OWN] if isinstance(page, Mapping) else []
    own = {name: typed_as(raw, f"{key}.{name}") for name in sorted(names, key=len, reverse=True)}
    values = {name: at(raw, own[name]) for name in own}
    if any(name in said for name in own.values()) or re.match(r"[a-z]+\.[a-z_.]+\b", said):
        return said
    meant = [name for name in own if re.search(rf"\b{re.escape(name)}\b", said)]
    meant = meant[:1] or [name for name in own if isinstance(values[name], str) and repr(values[name]) in said] or names
    return f"{', '.join(f'{own[name]}={shown(values[name])}' for name in meant) or key}: {said}"


def typable(raw: Tree) -> list[str]:
    """The keys that one may type, with the groups."""
    found = [
        key
        for key, value in leaves(raw)
        if not (isinstance(value, str) and "${" in value and "${oc.env" not in value) and not key.endswith("_")
    ]
    return [*found, *(name for name, value in raw.items() if isinstance(value, Mapping))]


def near(key: str, known: Iterable[str]) -> str:
    """``; did you mean kd.temperature?``: keys that are nearly the same, or whose last part is."""
    known, last = list(dict.fromkeys(known)), key.rpartition(".")[2]
    found = [own for own in known if own.rpartition(".")[2] == last]
    found += difflib.get_close_matches(key, known, n=3, cutoff=0.75)
    if not found:
        ends = {own.rpartition(".")[2]: own for own in known}
        found = [ends[end] for end in difflib.get_close_matches(last, ends, n=2, cutoff=0.75)]
    found = list(dict.fromkeys(own for own in found if own != key))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def shown(value: Any) -> str:
    """A value as it is typed, cut where it is long."""
    word = {None: "null", True: "true", False: "false"}.get(value, "") if isinstance(value, bool | None) else ""
    text = word or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key, or None."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def missing(tree: Any, key: str) -> bool:
    """Whether there is no such key at all."""
    *way, last = key.split(".")
    node = at(tree, ".".join(way)) if way else tree
    return not isinstance(node, Mapping) or last not in node


def within(key: str, owner: str) -> bool:
    """Whether ``key`` is ``owner``, or below it."""
    return key == owner or key.startswith(f"{owner}.")


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is no mapping, or an empty one."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def expand(tree: Tree, pattern: str, prefix: str = "") -> Iterator[str]:
    """The keys that a pattern matches: ``kd.weights.*``."""
    first, _, rest = pattern.partition(".")
    for name in [*tree] if first == "*" else [first] if first in tree else []:
        if not rest:
            yield f"{prefix}{name}"
        elif isinstance(tree[name], Mapping):
            yield from expand(tree[name], rest, f"{prefix}{name}.")
