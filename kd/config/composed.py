"""Check the config that Hydra composed, and return it as plain values."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from kd.config.checks import check_keys, check_values
from kd.config.errors import explain_error
from kd.config.initialize import initialize_hydra
from kd.config.keys import did_you_mean_key, first_missing, get_path, key_of, quote_value, references
from kd.config.settings import overridable_keys, override_key

CHOSEN_GROUPS = ("data", "augment", "attention", "teacher", "student", "kd", "train", "tracking")
OPTION = r"[\w-][\w.-]*(/[\w-][\w.-]*)*"  # a name, which may have folders inside its group but no ..


def checked(config: DictConfig) -> tuple[DictConfig, dict[str, Any], dict[str, str]]:
    """Return the parts of a full config that a job gets: the config, its plain values, the option of each group.

    Raises:
        ValueError: a key that is missing or that nothing reads, or a value that its setting cannot take.
    """
    whole, before = copy.deepcopy(config), HydraConfig.instance().cfg
    with read_write(whole), open_dict(whole):  # as in a job, for settings that refer to it: ${hydra:job.num}
        whole.hydra.job.update({"id": "0", "num": 0})
        whole.hydra.runtime.output_dir = "."
    choices = {group: name for group, name in whole.hydra.runtime.choices.items() if name}
    for group in CHOSEN_GROUPS:
        if not re.fullmatch(OPTION, str(choices.get(group, ""))):
            if group not in choices:
                raise ValueError(f"{group} is missing: choose one, {group}=...")
            raise ValueError(f"{group} must be the name of one option, got {choices[group]!r}")
    HydraConfig.instance().set_config(whole)
    try:
        cfg = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        raw, hydra = OmegaConf.to_container(cfg), OmegaConf.to_container(whole.hydra)
        typed = [key_of(line) for line in hydra["overrides"]["task"]]
        check_keys(raw, [key for key in typed if "." in key], hydra)
        settings = resolved(cfg)
    finally:
        HydraConfig.instance().cfg = before
    check_values(raw, settings)
    if "attention.wrap" in typed and get_path(raw, "attention.wrap") is None and choices["attention"] != "none":
        raise ValueError("attention.wrap=null leaves no attention: use attention=none")
    return cfg, settings, choices


def compose_checked(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Compose the config of ``python -m kd.run`` with these arguments; return it and the option of each group.

    Raises:
        ValueError: an argument is wrong, with what would be right.
    """
    with initialize_hydra():
        try:
            whole = compose("config", list(overrides), return_hydra_config=True)
        except Exception as error:  # Hydra has no common class for its errors
            raise ValueError(explain_error(error, overrides)) from error
        cfg, _, choices = checked(whole)
    return cfg, choices


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """Return the plain values of a config, with unresolved interpolations."""
    return OmegaConf.to_container(cfg)


def as_yaml(settings: dict[str, Any]) -> str:
    """Return plain values as the text of ``config.yaml``."""
    return OmegaConf.to_yaml(OmegaConf.create(settings))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the plain values of a config, with resolved interpolations.

    Raises:
        ValueError: a setting has no value, or an interpolation cannot be resolved; names the key.
    """
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except RecursionError as error:
        raise ValueError("settings refer to each other in a circle") from error
    except OmegaConfBaseException as error:
        raise ValueError(_unresolved(error, OmegaConf.to_container(cfg))) from error


def _unresolved(error: OmegaConfBaseException, raw: dict[str, Any]) -> str:
    key = (error.full_key or "").partition("[")[0]
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        key = override_key(raw, key)
        return f"{key} must be set: {key}=…; python -m kd.zoo lists the choices"
    used = list(references(get_path(raw, key), key))
    for name in used if isinstance(error, InterpolationKeyError) else ():
        if first_missing(raw, name):
            return f"{name} is missing, and {key} refers to it{did_you_mean_key(name, overridable_keys(raw))}"
    own = override_key(raw, used[0]) if used and not first_missing(raw, used[0]) else key
    message = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).partition("\n")[0])
    value = get_path(raw, own)
    return f"{own}={value if isinstance(value, str) else quote_value(value)}: {message}"
