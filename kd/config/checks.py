"""Settings that cannot be are refused: told of plain values, before anything is imported or made."""

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
    AUTO,
    HYDRAS_OWN,
    PAGES,
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

PATH_BYTES, BELOW = 4096, 400  # of a path, as systems take it; of what a run adds to its outputs folder's
FEW = 4  # settings that are named where a message names none
BASELINE = "the baseline learns from labels alone: kd@baseline_kd=supervised or kd@baseline_kd=label_smoothing"


def check_keys(raw: Tree, typed: Iterable[str] = (), hydra: Tree | None = None) -> None:
    """Refuse what is not there and what nobody reads.

    Args:
        raw: the config as it was composed, interpolations as they are written. typed: keys of the command line.
        hydra: Hydra's own part, which may refer to ours.

    Raises:
        ValueError: with the key, and the nearest one that is read.
    """
    _check_baseline(raw)
    if isinstance(terms := get_path(raw, "kd.terms"), str):
        raise ValueError(f"kd.terms must be a list, kd=combine kd.terms=[{terms}], got {quote_value(terms)}")
    for key in [*READ, *(f"{owner}.weights" for owner in methods(raw)), *PAGES]:
        if first_missing(raw, key):
            raise ValueError(_absent(raw, key))
    for key, node, _ in option_nodes(raw):
        signature = signature_of(node["_target_"])
        for name in sorted(signature.needs - {*node, *values_given_to(key)} if signature else ()):
            raise ValueError(f"{key}.{name} is not there: {node['_target_']} needs it")
    alive = {key: not (rule.parts and isinstance(get_path(raw, key), Mapping)) for key, rule in uses(raw)}
    waiting = [*alive, "hydra"]
    for key in waiting:  # grows while it is walked
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
                    hint = f" since {overruled[0]} was said in its place"
                if is_within(key, "experiment"):
                    hint = ": the first line of an experiment's page is '# @package _global_'"
                raise ValueError(f"{key} is read by nothing{hint}")


def check_values(raw: Tree, settings: Tree) -> None:
    """Refuse values that cannot be.

    Args:
        raw: as of ``check_keys``. settings: the same, resolved.

    Raises:
        ValueError: with the key as it is typed, the value, and what would be right.
    """
    _check_baseline(raw)
    for key, rule in uses(raw):
        value = get_path(settings, key)
        if not rule.good(value):
            own = override_key(raw, key)
            text = is_number(value) and rule.good(str(value))
            hint = f"; text is quoted, '{own}=\"{value}\"'" if text else ""
            if isinstance(value, list) and rule.good(quoted := [str(v) if is_number(v) else v for v in value]):
                hint = f"; text is quoted, '{own}={json.dumps(quoted, ensure_ascii=False)}'"
            if (said := FROM_ENVIRONMENT.match(str(get_path(raw, own)))) and os.environ.get(
                said[1], ""
            ).strip() == value:
                hint = f", which {said[1]} says in the environment"
            if FILE.good(f"{value}/network.safetensors"):
                hint = f"; it is a folder{suggestion([f'{value}/network.safetensors'])}"
            if rule.names and isinstance(value, str):
                hint = did_you_mean(value, rule.names()) or hint
            raise ValueError(f"{own} must be {rule.right}, got {quote_value(value)}{hint}")
    given = [name for name in ("mean", "std") if get_path(settings, f"teacher.{name}") is not None]
    if len(given) == 1:
        raise ValueError(f"teacher.{given[0]} is said alone: pixels are normalised by teacher.mean and teacher.std")
    if get_path(settings, "teacher.checkpoint_prefix") is not None and not get_path(settings, "teacher.checkpoint"):
        raise ValueError("teacher.checkpoint_prefix is said without a file: teacher.checkpoint=FILE has the names")
    grad_accum_steps, images = settings["train"]["grad_accum_steps"], settings["train"]["batch_size"]
    most = (AUTO if images == "auto" else images) // 2
    if grad_accum_steps > most:
        raise ValueError(
            f"train.grad_accum_steps must be {most} or less, so that each has 2 images of a batch, got {grad_accum_steps}"
        )
    objective, batch = settings["optimized_metric"], settings["latency"]["batch"]
    for name in [objective] if isinstance(objective, str) else objective:
        directions(name)
        if (picked := PICKED.fullmatch(name)) and picked[1] != settings["train"]["pick_by"]:
            raise ValueError(f"optimized_metric={name} is known where train.pick_by={picked[1]} says so")
        measured = next((part for part in name.split(".") if part.startswith("batch_")), f"batch_{batch}")
        if measured not in ("batch_1", f"batch_{batch}"):
            raise ValueError(
                f"optimized_metric={name}: latency is measured at batch_1 and batch_{batch} (latency.batch)"
            )
    if not objective:
        raise ValueError("optimized_metric must name a number of a student, got an empty list")


def _check_baseline(raw: Tree) -> None:
    if "baseline_kd" in raw and not isinstance(get_path(raw, "baseline_kd.terms"), Mapping):
        raise ValueError(BASELINE)


def check_outputs(outputs: str, key: str = "outputs") -> None:
    """Refuse a folder that cannot be written, by making a folder and removing it where the first one would be made.

    Raises:
        ValueError: with the folder and what the system says.
    """
    check_length(outputs, key)
    try:
        place = Path(outputs).expanduser().absolute()  # a RuntimeError for the home of nobody
        there = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
        if not there.is_dir():
            raise ValueError(f"{there} is no folder")
        os.rmdir(tempfile.mkdtemp(prefix=".kd-", dir=there))
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{key} must be a folder that can be written, got {outputs!r}: {why}") from error


def check_length(folder: str, key: str) -> None:
    """Refuse a folder whose path is longer than a file system takes.

    Raises:
        ValueError: with the limit.
    """
    if too_long(folder):
        text = f"{key}: a name in a path has at most {NAME_BYTES} bytes, and {quote_value(folder)} has a longer one"
        raise ValueError(text)
    count = len(str(Path(folder).absolute()).encode("utf-8", "replace"))
    if count > PATH_BYTES - BELOW:
        raise ValueError(
            f"{key}: its path has {count:,} bytes, and with what lies below it {PATH_BYTES:,} is the limit"
        )


def _absent(raw: Tree, key: str) -> str:
    group, way = key.split(".")[0], key.split(".")[:-1]
    for above in (".".join(way[:end]) for end in range(1, len(way) + 1)):
        if not first_missing(raw, above) and not isinstance(get_path(raw, above), Mapping):
            return f"{above} must be {MAPPING.right}, got {quote_value(get_path(raw, above))}"
    if group not in raw and way:
        return f"{group} is not there: choose one, {'kd@' if group == 'baseline' else ''}{group}=..."
    return f"{key} is not there: say {key}=..."


def blamed_error(raw: Tree, key: str, said: str) -> str:
    """What the constructor of the page at ``key`` said, behind the setting that it speaks of, or all of a few."""
    page = get_path(raw, key)
    names = [name for name in page if name not in HYDRAS_OWN] if isinstance(page, Mapping) else []
    own = {name: override_key(raw, f"{key}.{name}") for name in sorted(names, key=len, reverse=True)}
    values = {name: get_path(raw, own[name]) for name in own}
    if any(name in said for name in own.values()) or re.match(r"[a-z]+\.[a-z_.]+\b", said):
        return said
    meant = [name for name in own if re.search(rf"\b{re.escape(name)}\b", said)]
    meant = meant[:1] or [name for name in own if isinstance(values[name], str) and repr(values[name]) in said]
    meant = meant or (names if len(names) <= FEW else [])
    return f"{', '.join(f'{own[name]}={quote_value(values[name])}' for name in meant) or key}: {said}"
