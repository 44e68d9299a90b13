"""``kd=combine``: methods listed by name, trained together."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from kd.config.paths import conf_dir
from kd.runtime.text import did_you_mean

HARD = "hard"  # the term of the labels, in every method's yaml


def expand_combination(cfg: DictConfig, choices: Mapping[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """Return config and choices with ``kd=combine`` written out: terms, weights and schedules of the methods listed.

    The labels count as little as the method that trusts them least lets them, or as much as ``kd.hard`` says. The order
    of the list means nothing.

    Raises:
        ValueError: a method that there is not, one listed twice, or methods that contradict each other.
    """
    if not isinstance(cfg.kd.terms, ListConfig):
        return cfg, dict(choices)
    listed = sorted(map(str, cfg.kd.terms))
    for name in listed:
        if not isinstance(cfg.kd.get(name), DictConfig):
            known = [key for key, value in cfg.kd.items() if isinstance(value, DictConfig)]
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}."
            raise ValueError(
                f"kd.terms lists {name!r}, which is no method that can be combined{hint} "
                "(One that sets more than its terms, as function_matching does, cannot.)"
            )
    if len(set(listed)) < len(listed) or not listed:
        raise ValueError(f"kd.terms={listed}: list at least one method, and each once")
    methods = {name: OmegaConf.to_container(cfg.kd[name], resolve=True) for name in listed}
    written = _combined(methods, cfg.kd.hard)
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.kd = written
    return cfg, {**choices, "kd": "+".join(listed)}


def _combined(methods: Mapping[str, dict[str, Any]], hard: float | None) -> dict[str, Any]:
    whole: dict[str, Any] = {"terms": {}, "weights": {}, "schedule": {}}
    for name, method in methods.items():
        own = [term for term in method["terms"] if term != HARD]
        for term in own:
            # a method's only term goes by the method's name; two methods may have terms of one name
            place = term if len(methods) == 1 else name if len(own) == 1 else f"{name}_{term}"
            whole["terms"][place], whole["weights"][place] = method["terms"][term], method["weights"][term]
            if term in method.get("schedule", {}):
                whole["schedule"][place] = method["schedule"][term]
        whole[name] = {key: value for key, value in method.items() if key not in ("terms", "weights", "schedule")}
    labels = _agreed("learn from the labels", {n: m["terms"][HARD] for n, m in methods.items() if HARD in m["terms"]})
    when = _agreed("count the labels", {n: m.get("schedule", {}).get(HARD) for n, m in methods.items()})
    between = _agreed("put networks between", {n: m["assistants"] for n, m in methods.items() if "assistants" in m})
    if labels:
        lowest = min(method["weights"].get(HARD, 0.0) for method in methods.values())
        whole["terms"][HARD], whole["weights"][HARD] = labels, lowest if hard is None else hard
    elif hard:
        raise ValueError(
            f"kd.hard={hard}: {', '.join(methods)} has no term of the labels to weigh; list supervised too"
        )
    if when:
        whole["schedule"][HARD] = when
    if between:
        whole["assistants"] = between
    return whole


def _agreed(what: str, said: Mapping[str, Any]) -> Any:
    """What all methods say of one thing."""
    different = {repr(value): name for name, value in said.items()}
    if len(different) > 1:
        raise ValueError(f"kd.terms: {' and '.join(different.values())} {what} differently, so they do not combine")
    return next(iter(said.values()), None)


def combination() -> dict[str, Any]:
    """The content of ``kd=combine``: every method's settings under its name, of which those listed are used."""
    return {"terms": ["hinton", "at"], HARD: None, **_methods(conf_dir())}


@functools.cache
def _methods(folder: str) -> dict[str, dict[str, Any]]:
    """The methods that can be combined, by name. 33 files take 0.1 s to read, and a sweep composes every job."""
    methods = {}
    for path in sorted((Path(folder) / "kd").glob("*.yaml")):
        option = OmegaConf.load(path)
        if isinstance(option.get("terms"), DictConfig) and "defaults" not in option:
            methods[path.stem] = OmegaConf.to_container(option)
    return methods
