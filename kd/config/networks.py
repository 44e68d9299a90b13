"""Options of the config groups, and the networks that a list names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from kd.config.checks import check_keys, check_values
from kd.config.initialize import initialize_hydra
from kd.config.rules import SEED
from kd.runtime.text import did_you_mean

ASSISTANT = 1_000  # distance between the seeds of the assistants of a chain
NOT_OF_A_MEMBER = ("ensemble", "combine", "source", "allow_weak")  # settings of the whole ensemble
# settings that an assistant cannot have: the run trains it, from a seed that depends on its place in the chain
TRAINED = ("seed", "checkpoint", "checkpoint_prefix", "pretrained", "classes")
# settings of each teacher that the program reads, besides its attention
OF_A_TEACHER = ("network", "seed", "checkpoint", "checkpoint_prefix", "mean", "std", "image_size", "classes")


def names(group: str) -> list[str]:
    """Return every option of a group, including those of ``--config-dir``."""
    with initialize_hydra():
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))


def network_of(entry: Any, groups: tuple[str, ...], setting: str) -> dict[str, Any]:
    """Compose the network that an entry of ``teacher.ensemble`` or ``kd.assistants`` names.

    Args:
        entry: the name of an option, ``resnet34``, or its name under its group with settings,
            ``{student: tiny_cnn, width: 3}``. groups: searched for a bare name, in this order.
        setting: the list that holds the entry, for error messages.

    Returns:
        ``{"name", "group", "network", "attention"}`` and, for a teacher, ``OF_A_TEACHER``: plain values.

    Raises:
        ValueError: a name or a setting does not exist.
    """
    settings = dict(entry) if isinstance(entry, Mapping) else {}
    group = next((group for group in groups if group in settings), None)
    name = settings.pop(group) if group else entry
    group = group or next((group for group in groups if name in names(group)), None)
    if not isinstance(name, str) or group is None or name not in names(group):
        known = [option for each in groups for option in names(each)]
        hint = did_you_mean(str(name), known) or f": the options are {', '.join(dict.fromkeys(known))}"
        raise ValueError(f"{setting} names {name!r}, which is not an option of {' or '.join(groups)}{hint}")
    with initialize_hydra():
        cfg = compose("config", [f"{group}={name}"])
    own = [key for key in cfg[group] if key not in NOT_OF_A_MEMBER and (groups[0] == "teacher" or key not in TRAINED)]
    unknown = sorted(set(settings) - set(own))
    if unknown:
        raise ValueError(
            f"{setting}: {group}={name} does not take {', '.join(unknown)} here; it takes {', '.join(own)}"
        )
    for key, value in settings.items():
        OmegaConf.update(cfg, f"{group}.{key}", value)
    raw = OmegaConf.to_container(cfg)
    if "???" not in raw[group].values():  # reported below
        try:
            check_keys(raw)
            check_values(raw, OmegaConf.to_container(cfg, resolve=True))
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None
    try:
        network = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        missing = error.full_key.rpartition(".")[2]
        if missing in TRAINED and missing not in own:
            text = f"{setting}: {name} is already trained, but the run trains every network of this list itself"
            raise ValueError(text) from None
        text = f"{setting}: {group}={name} requires {missing}: use {{{group}: {name}, {missing}: ...}}"
        raise ValueError(text) from None
    if group == "student":
        return {"name": name, "group": group, "network": network, "attention": None}
    attention = OmegaConf.to_container(cfg.attention, resolve=True)
    kept = {key: network[key] for key in OF_A_TEACHER}
    return {"name": name, "group": group, "attention": attention, **kept}


def members_of(settings: Mapping[str, Any], choice: str) -> list[dict[str, Any]]:
    """Return the teachers that ``teacher.ensemble`` lists, in the form of ``network_of``; [] if it is empty.

    Args:
        settings: the resolved config. choice: the option of the group `teacher`.

    Raises:
        ValueError: an entry is neither a seed of the chosen teacher nor an option.
    """
    return [_member(entry, settings, choice) for entry in _listed(settings["teacher"]["ensemble"], "teacher.ensemble")]


def _member(entry: Any, settings: Mapping[str, Any], choice: str) -> dict[str, Any]:
    chosen = settings["teacher"]
    if isinstance(entry, int) and not isinstance(entry, bool):
        if not SEED.good(entry):
            raise ValueError(f"teacher.ensemble: a seed must be {SEED.right}, got {entry}")
        return {**chosen, "attention": settings["attention"], "seed": entry, "name": choice}
    for name in ("checkpoint", "checkpoint_prefix", "pretrained", "mean", "std", "image_size", "classes"):
        if chosen.get(name):
            raise ValueError(
                f"teacher.{name} does not apply to a named member: use [{{teacher: {entry}, {name}: ...}}]"
            )
    spec = network_of(entry, ("teacher",), "teacher.ensemble")
    return {**spec, "seed": entry.get("seed", chosen["seed"]) if isinstance(entry, Mapping) else chosen["seed"]}


def assistants_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the networks that ``kd.assistants`` lists; "student" is a copy of the run's student, with its own seed."""
    assistants = []
    for number, entry in enumerate(_listed(settings["kd"].get("assistants", []), "kd.assistants"), start=1):
        copy = {"name": entry, "network": settings["student"], "attention": None}
        spec = copy if entry == "student" else network_of(entry, ("student", "teacher"), "kd.assistants")
        assistants.append({**spec, "seed": settings["seed"] + ASSISTANT * number})
    return assistants


def name_of(members: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of an ensemble: ``vea_resnet18_x3``, ``resnet18+resnet34``."""
    each = Counter(spec["name"] for spec in members)
    return "+".join(f"{name}_x{count}" if count > 1 else name for name, count in each.items())


def _listed(value: Any, setting: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{setting} must be a list, e.g. {setting}=[resnet18], got {value}")
    return value
