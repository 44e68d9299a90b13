"""Refuse settings that cannot work: checks of plain values, before anything heavy is imported or made."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kd.config.keys import (
    FROM_ENVIRONMENT,
    Tree,
    did_you_mean_key,
    first_missing,
    get_path,
    is_within,
    quote_value,
    references,
)
from kd.config.rules import FILE, MAPPING, NAME_BYTES, too_long
from kd.config.search_objective import PICKED, directions
from kd.config.settings import (
    AUTO_BATCH_SIZE,
    HYDRAS_OWN,
    NODES,
    READ,
    methods,
    option_nodes,
    overridable_keys,
    override_key,
    unlisted,
    uses,
    values_given_to,
)
from kd.config.signatures import signature_of
from kd.runtime.text import did_you_mean, suggestion
from kd.runtime.values import flatten, is_number

PATH_BYTES, BELOW = 4096, 400  # the longest path that systems take; what a run adds to the path of its outputs
MAX_NAMED = 4  # a message that names no setting gets all settings of its node, up to so many
BASELINE = "the baseline learns from labels alone: kd@baseline_kd=supervised or kd@baseline_kd=label_smoothing"


def check_keys(raw: Tree, typed: Iterable[str] = (), hydra: Tree | None = None) -> None:
    """Refuse settings that are missing and settings that nothing reads.

    Args:
        raw: the composed config with unresolved interpolations. typed: keys of the command line.
        hydra: Hydra's own part, which may refer to ours.

    Raises:
        ValueError: names the key and the most similar key that is read.
    """
    _check_baseline(raw)
    if isinstance(terms := get_path(raw, "kd.terms"), str):
        raise ValueError(f"kd.terms must be a list, kd=combine kd.terms=[{terms}], got {quote_value(terms)}")
    for key in [*READ, *(f"{owner}.weights" for owner in methods(raw)), *NODES]:
        if first_missing(raw, key):
            raise ValueError(_describe_missing(raw, key))
    for key, node, _ in option_nodes(raw):
        signature = signature_of(node["_target_"])
        for name in sorted(signature.needs - {*node, *values_given_to(key)} if signature else ()):
            raise ValueError(f"{key}.{name} is missing: {node['_target_']} requires it")
    values = ((key, rule, get_path(raw, key)) for key, rule in uses(raw))
    alive = {key: not (rule.parts and isinstance(value, Mapping) and value) for key, rule, value in values}
    waiting = [*alive, "hydra"]
    for key in waiting:  # the loop appends to it
        found = [own for own in references(hydra if key == "hydra" else get_path(raw, key), key) if not alive.get(own)]
        alive |= dict.fromkeys(found, True)
        waiting += found
    spared, typed = unlisted(raw), tuple(typed)
    for key, _ in flatten(raw, keep_empty=True):
        if not any(is_within(key, own) for own, whole in alive.items() if whole):
            aside = any(is_within(key, own) for own in spared)
            if not aside or any(is_within(key, own) for own in typed):
                hint = did_you_mean_key(key, overridable_keys(raw))
                if aside:
                    hint = f": kd.terms lists {', '.join(map(str, raw['kd']['terms']))}"
                elif overruled := [own for own in typed if own != key and own.endswith(f".{key.rpartition('.')[2]}")]:
                    hint = f": {overruled[0]} replaces it"
                if is_within(key, "experiment"):
                    hint = ": the first line of an experiment's yaml file must be '# @package _global_'"
                raise ValueError(f"nothing reads {key}{hint}")


def check_values(raw: Tree, settings: Tree) -> None:
    """Refuse values that a setting cannot take.

    Args:
        raw: as for ``check_keys``. settings: the same config, resolved.

    Raises:
        ValueError: names the key as you type it, the value, and what would be right.
    """
    _check_baseline(raw)
    for key, rule in uses(raw):
        value = get_path(settings, key)
        if not rule.good(value):
            own = override_key(raw, key)
            text = is_number(value) and rule.good(str(value))
            hint = f"; quote text: '{own}=\"{value}\"'" if text else ""
            if isinstance(value, list) and rule.good(quoted := [str(v) if is_number(v) else v for v in value]):
                hint = f"; quote text: '{own}={json.dumps(quoted, ensure_ascii=False)}'"
            variable = FROM_ENVIRONMENT.match(str(get_path(raw, own)))
            if variable and os.environ.get(variable[1], "").strip() == value:
                hint = f", from {variable[1]} in the environment"
            if FILE.good(f"{value}/network.safetensors"):
                hint = f"; this is a folder{suggestion([f'{value}/network.safetensors'])}"
            if rule.names and isinstance(value, str):
                hint = did_you_mean(value, rule.names()) or hint
            raise ValueError(f"{own} must be {rule.right}, got {quote_value(value)}{hint}")
    given = [name for name in ("mean", "std") if get_path(settings, f"teacher.{name}") is not None]
    if len(given) == 1:
        raise ValueError(f"teacher.{given[0]} is set alone: set both teacher.mean and teacher.std")
    if get_path(settings, "teacher.checkpoint_prefix") is not None and not get_path(settings, "teacher.checkpoint"):
        raise ValueError("teacher.checkpoint_prefix is set without a checkpoint: set teacher.checkpoint=FILE too")
    if get_path(settings, "teacher.classes") is not None and not (
        get_path(settings, "teacher.checkpoint") or get_path(settings, "teacher.network.pretrained")
    ):
        raise ValueError(
            "teacher.classes names the classes of a trained teacher, and this one is trained on the data's: set "
            "teacher.checkpoint=FILE, or teacher.pretrained, too"
        )
    place, processes = settings["train"]["device"], os.environ.get("WORLD_SIZE", "1")
    if ":" in place and processes != "1":
        raise ValueError(
            f"train.device={place} would give all {processes} processes the same GPU: set train.device=cuda, and each "
            "process takes its own"
        )
    grad_accum_steps, batch_size = settings["train"]["grad_accum_steps"], settings["train"]["batch_size"]
    most = (AUTO_BATCH_SIZE if batch_size == "auto" else batch_size) // 2
    if grad_accum_steps > most:
        raise ValueError(
            f"train.grad_accum_steps must be {most} or less, so that each micro-batch has at least 2 images, "
            f"got {grad_accum_steps}"
        )
    optimized_metric, batch = settings["optimized_metric"], settings["latency"]["batch"]
    for name in [optimized_metric] if isinstance(optimized_metric, str) else optimized_metric:
        directions(name)
        if (picked := PICKED.fullmatch(name)) and picked[1] != settings["train"]["pick_by"]:
            raise ValueError(f"optimized_metric={name} requires train.pick_by={picked[1]}")
        measured = next((part for part in name.split(".") if part.startswith("batch_")), f"batch_{batch}")
        if measured not in ("batch_1", f"batch_{batch}"):
            raise ValueError(
                f"optimized_metric={name}: latency is measured at batch_1 and batch_{batch} (latency.batch)"
            )
    if not optimized_metric:
        raise ValueError("optimized_metric must name at least one number of the student, got an empty list")


def _check_baseline(raw: Tree) -> None:
    if "baseline_kd" in raw and not isinstance(get_path(raw, "baseline_kd.terms"), Mapping):
        raise ValueError(BASELINE)


def check_outputs(outputs: str, key: str = "outputs") -> None:
    """Refuse a folder that cannot be written: make a folder in its nearest existing parent, and remove it.

    Raises:
        ValueError: names the folder and gives the system's reason.
    """
    check_length(outputs, key)
    try:
        path = Path(outputs).expanduser().absolute()  # RuntimeError for an unknown user's home
        existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        if not existing.is_dir():
            raise ValueError(f"{existing} is not a folder")
        os.rmdir(tempfile.mkdtemp(prefix=".kd-", dir=existing))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{key} must be a writable folder, got {outputs!r}: {reason}") from error


def check_length(folder: str, key: str) -> None:
    """Refuse a folder whose path is longer than a file system takes.

    Raises:
        ValueError: names the limit.
    """
    if too_long(folder):
        text = f"{key}: a name in a path has at most {NAME_BYTES} bytes, and {quote_value(folder)} has a longer one"
        raise ValueError(text)
    count = len(str(Path(folder).absolute()).encode("utf-8", "replace"))
    if count > PATH_BYTES - BELOW:
        raise ValueError(
            f"{key}: its path has {count:,} bytes; with the files of a run below it, {PATH_BYTES:,} is the limit"
        )


def _describe_missing(raw: Tree, key: str) -> str:
    group, parents = key.split(".")[0], key.split(".")[:-1]
    for above in (".".join(parents[:end]) for end in range(1, len(parents) + 1)):
        if not first_missing(raw, above) and not isinstance(get_path(raw, above), Mapping):
            return f"{above} must be {MAPPING.right}, got {quote_value(get_path(raw, above))}"
    if group not in raw and parents:
        return f"{group} is missing: choose one, {'kd@' if group == 'baseline_kd' else ''}{group}=..."
    return f"{key} is missing: set {key}=..."


def blamed_error(raw: Tree, key: str, message: str) -> str:
    """Return the error message of a constructor, prefixed with the settings that it concerns.

    These are the setting that it names, or all settings of the config node at ``key`` if they are at most ``FEW``.
    """
    node = get_path(raw, key)
    names = [name for name in node if name not in HYDRAS_OWN] if isinstance(node, Mapping) else []
    own = {name: override_key(raw, f"{key}.{name}") for name in sorted(names, key=len, reverse=True)}
    values = {name: get_path(raw, own[name]) for name in own}
    if any(name in message for name in own.values()) or re.match(r"[a-z]+\.[a-z_.]+\b", message):
        return message
    blamed = [name for name in own if re.search(rf"\b{re.escape(name)}\b", message)]
    blamed = blamed[:1] or [name for name in own if isinstance(values[name], str) and repr(values[name]) in message]
    blamed = blamed or (names if len(names) <= MAX_NAMED else [])
    return f"{', '.join(f'{own[name]}={quote_value(values[name])}' for name in blamed) or key}: {message}"
