"""Settings that cannot be are refused: told of plain values, before anything is imported or made."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kd.config.keys import FROM_ENVIRONMENT, Tree, at, did_you_mean_key, missing, references, shown, within
from kd.config.rules import FILE, MAPPING, NAME_BYTES, too_long
from kd.config.settings import (
    AUTO,
    HYDRAS_OWN,
    PAGES,
    READ,
    given_to,
    methods,
    pages,
    typable,
    typed_as,
    unlisted,
    uses,
)
from kd.config.signatures import signature_of
from kd.runtime.text import did_you_mean, suggestion
from kd.runtime.values import flatten, is_number
from kd.search import PICKED, directions

PATH_BYTES, BELOW = 4096, 400  # of a path, as systems take it; of what a run adds to its outputs folder's
FEW = 4  # settings that are named where a message names none
TWIN = "the twin learns from labels alone: kd@twin=supervised or kd@twin=label_smoothing"


def check_keys(raw: Tree, typed: Iterable[str] = (), hydra: Tree | None = None) -> None:
    """Refuse what is not there and what nobody reads.

    Args:
        raw: the config as it was composed, interpolations as they are written. typed: keys of the command line.
        hydra: Hydra's own part, which may refer to ours.

    Raises:
        ValueError: with the key, and the nearest one that is read.
    """
    _check_twin(raw)
    if isinstance(terms := at(raw, "kd.terms"), str):
        raise ValueError(f"kd.terms must be a list, kd=combine kd.terms=[{terms}], got {shown(terms)}")
    for key in [*READ, *(f"{owner}.weights" for owner in methods(raw)), *PAGES]:
        if missing(raw, key):
            raise ValueError(_absent(raw, key))
    for key, node, _ in pages(raw):
        signature = signature_of(node["_target_"])
        for name in sorted(signature.needs - {*node, *given_to(key)} if signature else ()):
            raise ValueError(f"{key}.{name} is not there: {node['_target_']} needs it")
    alive = {key: not (rule.parts and isinstance(at(raw, key), Mapping)) for key, rule in uses(raw)}
    waiting = [*alive, "hydra"]
    for key in waiting:  # grows while it is walked
        found = [own for own in references(hydra if key == "hydra" else at(raw, key), key) if not alive.get(own)]
        alive |= dict.fromkeys(found, True)
        waiting += found
    spared, typed = unlisted(raw), tuple(typed)
    for key, _ in flatten(raw, keep_empty=True):
        if not any(within(key, own) for own, whole in alive.items() if whole):
            aside = any(within(key, own) for own in spared)
            if not aside or any(within(key, own) for own in typed):
                hint = did_you_mean_key(key, typable(raw))
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
            if isinstance(value, list) and rule.good(quoted := [str(v) if is_number(v) else v for v in value]):
                hint = f"; text is quoted, '{own}={json.dumps(quoted, ensure_ascii=False)}'"
            if (said := FROM_ENVIRONMENT.match(str(at(raw, own)))) and os.environ.get(said[1], "").strip() == value:
                hint = f", which {said[1]} says in the environment"
            if FILE.good(f"{value}/network.safetensors"):
                hint = f"; it is a folder{suggestion([f'{value}/network.safetensors'])}"
            if rule.names and isinstance(value, str):
                hint = did_you_mean(value, rule.names()) or hint
            raise ValueError(f"{own} must be {rule.right}, got {shown(value)}{hint}")
    given = [name for name in ("mean", "std") if at(settings, f"teacher.{name}") is not None]
    if len(given) == 1:
        raise ValueError(f"teacher.{given[0]} is said alone: pixels are normalised by teacher.mean and teacher.std")
    if at(settings, "teacher.checkpoint_prefix") is not None and not at(settings, "teacher.checkpoint"):
        raise ValueError("teacher.checkpoint_prefix is said without a file: teacher.checkpoint=FILE has the names")
    pieces, images = settings["train"]["pieces"], settings["train"]["batch_size"]
    most = (AUTO if images == "auto" else images) // 2
    if pieces > most:
        raise ValueError(f"train.pieces must be {most} or less, so that each has 2 images of a batch, got {pieces}")
    objective, batch = settings["objective"], settings["latency"]["batch"]
    for name in [objective] if isinstance(objective, str) else objective:
        directions(name)
        if (picked := PICKED.fullmatch(name)) and picked[1] != settings["train"]["pick_by"]:
            raise ValueError(f"objective={name} is known where train.pick_by={picked[1]} says so")
        measured = next((part for part in name.split(".") if part.startswith("batch_")), f"batch_{batch}")
        if measured not in ("batch_1", f"batch_{batch}"):
            raise ValueError(f"objective={name}: latency is measured at batch_1 and batch_{batch} (latency.batch)")
    if not objective:
        raise ValueError("objective must name a number of a student, got an empty list")


def _check_twin(raw: Tree) -> None:
    if "twin" in raw and not isinstance(at(raw, "twin.terms"), Mapping):
        raise ValueError(TWIN)


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
        text = f"{key}: a name in a path has at most {NAME_BYTES} bytes, and {shown(folder)} has a longer one"
        raise ValueError(text)
    count = len(str(Path(folder).absolute()).encode("utf-8", "replace"))
    if count > PATH_BYTES - BELOW:
        raise ValueError(
            f"{key}: its path has {count:,} bytes, and with what lies below it {PATH_BYTES:,} is the limit"
        )


def _absent(raw: Tree, key: str) -> str:
    group, way = key.split(".")[0], key.split(".")[:-1]
    for above in (".".join(way[:end]) for end in range(1, len(way) + 1)):
        if not missing(raw, above) and not isinstance(at(raw, above), Mapping):
            return f"{above} must be {MAPPING.right}, got {shown(at(raw, above))}"
    if group not in raw and way:
        return f"{group} is not there: choose one, {'kd@' if group == 'twin' else ''}{group}=..."
    return f"{key} is not there: say {key}=..."


def blame(raw: Tree, key: str, said: str) -> str:
    """What the constructor of the page at ``key`` said, behind the setting that it speaks of, or all of a few."""
    page = at(raw, key)
    names = [name for name in page if name not in HYDRAS_OWN] if isinstance(page, Mapping) else []
    own = {name: typed_as(raw, f"{key}.{name}") for name in sorted(names, key=len, reverse=True)}
    values = {name: at(raw, own[name]) for name in own}
    if any(name in said for name in own.values()) or re.match(r"[a-z]+\.[a-z_.]+\b", said):
        return said
    meant = [name for name in own if re.search(rf"\b{re.escape(name)}\b", said)]
    meant = meant[:1] or [name for name in own if isinstance(values[name], str) and repr(values[name]) in said]
    meant = meant or (names if len(names) <= FEW else [])
    return f"{', '.join(f'{own[name]}={shown(values[name])}' for name in meant) or key}: {said}"
