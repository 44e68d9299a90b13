"""``kd=combine``: methods listed by name, trained together."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from kd.config.paths import conf_dir
from kd.runtime.text import did_you_mean

HARD = "hard"  # name of the label term in every method's yaml file
OF_ANY = ("balance", "balance_share")  # settings of any method: see conf/config.yaml


def expand_combination(cfg: DictConfig, choices: Mapping[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """Return config and choices with ``kd=combine`` expanded to terms, weights and schedules of the listed methods.

    The weight of the labels is the lowest of the listed methods, or ``kd.hard`` if set. The order of the list does not
    matter.

    Raises:
        ValueError: an unknown method, a method listed twice, or methods that contradict each other.
    """
    if not isinstance(cfg.kd.terms, ListConfig):
        return cfg, dict(choices)
    listed = sorted(map(str, cfg.kd.terms))
    for name in listed:
        if not isinstance(cfg.kd.get(name), DictConfig):
            known = [key for key, value in cfg.kd.items() if isinstance(value, DictConfig)]
            hint = did_you_mean(name, known) or f"; the choices are {', '.join(known)}."
            raise ValueError(
                f"kd.terms lists {name!r}, which is not a method that can be combined{hint} "
                "(A method that sets more than its terms, such as function_matching, cannot be combined.)"
            )
    if len(set(listed)) < len(listed) or not listed:
        raise ValueError(f"kd.terms={listed}: list at least one method, and each only once")
    methods = {name: OmegaConf.to_container(cfg.kd[name], resolve=True) for name in listed}
    combined = _combine(methods, cfg.kd.hard) | {name: cfg.kd.get(name) for name in OF_ANY}
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.kd = combined
    return cfg, {**choices, "kd": "+".join(listed)}


def _combine(methods: Mapping[str, dict[str, Any]], hard: float | None) -> dict[str, Any]:
    whole: dict[str, Any] = {"terms": {}, "weights": {}, "schedule": {}}
    for name, method in methods.items():
        own = [term for term in method["terms"] if term != HARD]
        for term in own:
            place = place_of(name, term, method["terms"], len(methods))
            whole["terms"][place], whole["weights"][place] = method["terms"][term], method["weights"][term]
            if term in method.get("schedule", {}):
                whole["schedule"][place] = method["schedule"][term]
        whole[name] = {key: value for key, value in method.items() if key not in ("terms", "weights", "schedule")}
    labels = _agreed_value("the label term", {n: m["terms"][HARD] for n, m in methods.items() if HARD in m["terms"]})
    schedule = _agreed_value("the label schedule", {n: m.get("schedule", {}).get(HARD) for n, m in methods.items()})
    assistants = _agreed_value("assistants", {n: m["assistants"] for n, m in methods.items() if "assistants" in m})
    if labels:
        lowest = min(method["weights"].get(HARD, 0.0) for method in methods.values())
        whole["terms"][HARD], whole["weights"][HARD] = labels, lowest if hard is None else hard
    elif hard:
        raise ValueError(f"kd.hard={hard}: {', '.join(methods)} has no label term to weight; list supervised too")
    if schedule:
        whole["schedule"][HARD] = schedule
    if assistants:
        whole["assistants"] = assistants
    return whole


def place_of(method: str, term: str, terms: Collection[str], methods: int) -> str:
    """Return the name of a method's term in a combination.

    Args:
        terms: of the method. methods: how many are combined.
    """
    own = [name for name in terms if name != HARD]
    # a method's only term takes the method's name, because two methods may have terms of the same name
    return term if methods == 1 else method if len(own) == 1 else f"{method}_{term}"


def _agreed_value(what: str, by_method: Mapping[str, Any]) -> Any:
    """Return the value that all methods set, or None; raise if they differ."""
    different = {repr(value): name for name, value in by_method.items()}
    if len(different) > 1:
        raise ValueError(f"kd.terms: {' and '.join(different.values())} set {what} differently and cannot be combined")
    return next(iter(by_method.values()), None)


def combination() -> dict[str, Any]:
    """Return the content of ``kd=combine``: the settings of every method under its name; the listed ones are used."""
    return {"terms": ["hinton", "at"], HARD: None, **_methods(conf_dir())}


@functools.cache
def _methods(folder: str) -> dict[str, dict[str, Any]]:
    """Return the methods that can be combined, by name. Cached: 33 files take 0.1 s, and a sweep composes every job."""
    methods = {}
    for path in sorted((Path(folder) / "kd").glob("*.yaml")):
        option = OmegaConf.load(path)
        if isinstance(option.get("terms"), DictConfig) and "defaults" not in option:
            methods[path.stem] = OmegaConf.to_container(option)
    return methods
