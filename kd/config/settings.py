"""All settings: what reads each, and what values it may have.

A setting is read if the constructor of its config node takes it (``NODES``), if the program reads it (``READ``,
``READ_IF_PRESENT``), or if another setting that is read refers to it, ``${kd.temperature}``. All others are refused.
If you make the program read a new setting, add its line here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kd.config.keys import ALONE, FROM_ENVIRONMENT, Tree, absolute, expand, get_path
from kd.config.rules import (
    ANYTHING,
    DEVICE,
    FILE,
    FLAG,
    FOLDER,
    GROUP_OF_WANDB,
    LINE,
    LIST,
    MAPPING,
    MODEL,
    NAME,
    NAMED,
    OPTIMIZER,
    OPTION_NODE,
    PART,
    PREFIX,
    SEED,
    SHARE,
    TAG_OF_WANDB,
    WANDB_PATH,
    WAY,
    WEIGHTS,
    Rule,
    any_of,
    different,
    is_option_node,
    list_of,
    number,
    one_of,
    or_null,
    whole,
)
from kd.config.signatures import signature_of
from kd.runtime.values import flatten

AUTO_BATCH_SIZE = 64  # batch size of train.batch_size=auto
HYDRAS_OWN = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
# Read by the program itself, and required in every run.
READ: dict[str, Rule] = {
    "seed": SEED,
    "baseline": FLAG,
    "latency.batch": whole(1, 65_536),
    "latency.seconds": number(0, 3600),
    "report": FLAG,
    "optimized_metric": any_of([LINE, list_of(LINE)]),
    "sweep": or_null(NAME),
    "outputs": LINE,
    "augment.steps": NAMED,
    "data.image_size": whole(8, 4096),
    "data.stored_size": or_null(whole(8, 4096)),
    "data.fit": one_of("crop", "pad", "squash"),
    "data.crop_pct": number(above=0, most=1),
    "data.balance": one_of("none", "sample", "weight"),
    "data.unlabelled": or_null(FOLDER),
    "data.labelled": or_null(number(above=0, below=1)),
    "attention.stages": or_null(different(whole(0))),
    "attention.unused_published_params": MAPPING,
    "teacher.seed": SEED,
    "teacher.mean": or_null(list_of(SHARE, 3)),
    "teacher.std": or_null(list_of(number(above=0, most=1), 3)),
    "teacher.image_size": or_null(whole(8, 4096)),
    "teacher.classes": or_null(FILE),
    "teacher.ensemble": LIST,
    "teacher.combine": one_of("probabilities", "log_mean_exp", "logits"),
    "teacher.source": one_of("auto", "live", "cached"),
    "teacher.checkpoint": or_null(WEIGHTS),
    "teacher.checkpoint_prefix": or_null(PREFIX),
    "teacher.allow_weak": FLAG,
    "train.grad_accum_steps": whole(1, 4096),
    "train.pick_by": one_of("accuracy", "balanced_accuracy", "macro_f1"),
    "train.batch_size": any_of([whole(2), Rule("auto", lambda value: value == "auto")]),
    "train.device": DEVICE,
    "train.precision": one_of("auto", "float32", "bfloat16"),
    "train.channels_last": FLAG,
    "train.compile": FLAG,
    "train.threads": or_null(whole(1, 1024)),
    "train.checkpoint_minutes": number(above=0),
    "train.student.label_smoothing": PART,
    "tracking.mode": one_of("offline", "online", "disabled"),
    "tracking.group": or_null(GROUP_OF_WANDB),
    "kd.terms": any_of([NAMED, LIST]),
    "baseline_kd.terms": NAMED,
}
# Read by the program if the config has them.
READ_IF_PRESENT: dict[str, Rule] = {
    "augment.after_augment": FLAG,
    "second_augment": or_null(NAMED),
    "second_augment.steps": NAMED,
    "second_augment.after_augment": FLAG,
    "kd.balance": or_null(Rule("auto", lambda value: value == "auto")),
    "kd.balance_share": or_null(number(above=0)),
    "train.measure_gradients": FLAG,
    "tracking.project": WANDB_PATH,
    "tracking.entity": or_null(WANDB_PATH),
    "tracking.tags": list_of(TAG_OF_WANDB),
    "tracking.timeout": number(above=0, most=3600),
    "tracking.system_stats": FLAG,
}
# The same for kd, baseline_kd and each method that kd=combine lists. ``*`` matches any name.
METHOD_SETTINGS: dict[str, Rule] = {
    "weights": NAMED,
    "weights.*": number(0),
    "schedule": or_null(NAMED),
    "schedule.*": NAMED,
    "schedule.*.start": SHARE,
    "schedule.*.end": SHARE,
    "schedule.*.rise": SHARE,
    "schedule.*.fall": SHARE,
    "assistants": LIST,
}
# Config nodes with a _target_. Its constructor takes their settings and, from the program, the arguments listed here.
NETWORK = ("num_classes", "image_size")
NODES: dict[str, Sequence[str]] = {
    "data": ("store", "size"),
    "attention.wrap": ("stage", "channels"),
    "student": NETWORK,
    "teacher.network": NETWORK,
    "train.teacher": (),
    "train.student": (),
}
# The ranges of settings of our own constructors, by name. The constructors check them too (kd/data/checks.py for data
# sets), on purpose: this refuses a command line before anything slow is imported, the constructors refuse a call from
# Python. If you change a range, change both.
OURS: dict[str, Rule] = {
    "name": MODEL,
    "data.name": or_null(LINE),  # a whole key goes before the name alone
    "optimizer": OPTIMIZER,
    "temperature": number(above=0),
    "temperatures": list_of(number(above=0)),
    "stages": or_null(different(whole(most=-1))),
    "label_smoothing": PART,
    "dropout": PART,
    "width": number(above=0),
    "pretrained": any_of([FLAG, WEIGHTS]),
    "stem": one_of("auto", "small", "large"),
    "epochs": whole(1),
    "lr": number(above=0),
    "weight_decay": number(0),
    "momentum": PART,
    "delta": PART,
    "warmup": PART,
    "mixup": SHARE,
    "cutmix": SHARE,
    "clip_norm": or_null(number(above=0)),
    "ema": or_null(number(above=0, below=1)),
    "layer_decay": or_null(number(above=0, below=1)),
    "freeze_epochs": whole(0),
    "view_epochs": or_null(whole(1)),
    "seed": SEED,
    "drawing_seed": SEED,
    "val_fraction": number(above=0, below=1),
    "test_fraction": number(above=0, below=1),
    "label_noise": PART,
    "root": or_null(FOLDER),
    "white": or_null(number(above=0)),
    "nested": FLAG,
    "train_dir": WAY,
    "test_dir": WAY,
    "val_dir": or_null(WAY),
    "labels": or_null(WAY),
    "on_bad_file": one_of("error", "skip"),
    "on_leak": one_of("warn", "error"),
    "flip": SHARE,
    "shift": SHARE,
    "zoom": number(0, 0.9),
    "rotate": number(0, 180),
    "probability": SHARE,
    "negatives": whole(1, 2**24),
    "dim": whole(1, 65_536),
}


def uses(raw: Tree) -> Iterator[tuple[str, Rule]]:
    """Yield (key, rule) of every setting that is read, except those that are only referred to."""
    rules = READ | READ_IF_PRESENT
    rules |= {f"{owner}.{name}": rule for owner in methods(raw) for name, rule in METHOD_SETTINGS.items()}
    if isinstance(get_path(raw, "kd.terms"), list):  # kd=combine
        rules["kd.hard"] = or_null(number(0))
    for pattern, rule in rules.items():
        yield from ((key, rule) for key in expand(raw, pattern))
    for key in _node_keys(raw):
        yield key, or_null(OPTION_NODE) if key == "attention.wrap" else OPTION_NODE
    for key, node, given in option_nodes(raw):
        signature = signature_of(node["_target_"])
        ours = OURS if node["_target_"].startswith("kd.") else {}
        for name, value in node.items():
            if is_option_node(value):
                continue
            if name in HYDRAS_OWN or signature is None:
                yield f"{key}.{name}", ANYTHING
            elif (signature.open or name in signature.takes) and name not in given:
                rule = ours.get(f"{key}.{name}") or ours.get(name)
                yield f"{key}.{name}", rule or signature.takes.get(name, ANYTHING)


def option_nodes(raw: Tree) -> Iterator[tuple[str, Tree, Sequence[str]]]:
    """Yield (key, config node, arguments from the program) of every object that the run makes, nested ones too."""
    waiting = [(key, get_path(raw, key), values_given_to(key)) for key in _node_keys(raw)]
    for key, node, given in waiting:  # the loop appends to it
        if is_option_node(node):
            yield key, node, given
            signature = signature_of(node["_target_"])
            known = [name for name in node if signature is None or signature.open or name in signature.takes]
            waiting += [(f"{key}.{name}", node[name], ()) for name in known]


def _node_keys(raw: Tree) -> list[str]:
    patterns = ["augment.steps.*", "second_augment.steps.*", *(f"{owner}.terms.*" for owner in methods(raw))]
    return [*NODES, *(key for pattern in patterns for key in expand(raw, pattern))]


def values_given_to(pattern: str) -> Sequence[str]:
    return NODES.get(pattern, ())


def methods(raw: Tree) -> list[str]:
    """Return the keys of the methods: baseline_kd, and kd or, for kd=combine, each that it lists."""
    terms = get_path(raw, "kd.terms")
    if not isinstance(terms, list):
        return ["baseline_kd", "kd"]
    return ["baseline_kd", *(f"kd.{name}" for name in terms if isinstance(get_path(raw, f"kd.{name}"), Mapping))]


def unlisted(raw: Tree) -> list[str]:
    """Return the keys of the methods that kd=combine offers and does not list."""
    if not isinstance(get_path(raw, "kd.terms"), list):
        return []
    offered = {f"kd.{name}" for name, node in raw["kd"].items() if isinstance(node, Mapping)}
    return sorted(offered - set(methods(raw)))


def overridable_keys(raw: Tree) -> list[str]:
    """Return the keys that you may override, including the groups."""
    found = [
        key
        for key, value in flatten(raw, keep_empty=True)
        if not (isinstance(value, str) and value.startswith("${") and not FROM_ENVIRONMENT.search(value))
        and not key.endswith("_")
    ]
    return [*found, *(name for name, value in raw.items() if isinstance(value, Mapping))]


def override_key(raw: Tree, key: str) -> str:
    """Return the key that you override to change ``key``: ``kd.temperature`` for ``kd.terms.soft.temperature``.

    A key that is read for itself is not followed: an error at ``teacher.stem=${sweep}`` is not an error of ``sweep``.
    """
    known = {own for own, _ in uses(raw)}
    for _ in range(9):  # another check reports a circle
        value = get_path(raw, key)
        only = ALONE.fullmatch(value) if isinstance(value, str) else None
        if only is None or absolute(only[1], key) in known:
            return key
        key = absolute(only[1], key)
    return key
