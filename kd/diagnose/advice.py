"""The settings to try: overrides as one types them, from the settings of the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.config.weights import SHARE, WeightSetting
from kd.runtime.values import format_value, is_number

HALF = 0.5  # probability of a mixture
WIDEST = 4.0  # student.width up to which the tiny networks are useful
# What a command may say of another teacher, and convnext_atto does not take or would be changed by.
OF_ANOTHER_TEACHER = re.compile(r"teacher\.(name|width|depth|dropout|trusted|mean|std|classes|ensemble|network)\b")

Result = Mapping[str, Any]
Described = Mapping[str, Any]  # what ``kd.diagnose.objective.objective_of`` returns


def better_teacher(result: Result) -> tuple[str, ...]:
    """Train the teacher twice as long, if it was trained here; else take a pretrained one."""
    epochs, settings = result["teacher"]["training"]["epochs"], result.get("settings") or {}
    if epochs:
        return (f"train.teacher.epochs={2 * epochs}",)
    if OF_ANOTHER_TEACHER.search(result.get("command") or ""):
        return ()
    unset = [f" {key}=null" for key in ("teacher.checkpoint", "teacher.checkpoint_prefix") if settings.get(key)]
    return (f"teacher=convnext_atto teacher.pretrained=true{''.join(unset)}",)


def balanced_weights(
    result: Result, objective: Described, moment: Mapping[str, Any], names: Sequence[str], higher: bool
) -> tuple[str, ...]:
    """Give terms the weights at which each has the gradient that ``kd.balance=auto`` gives it.

    Args:
        moment: a measurement of the gradients, from which the weights are computed.
        higher: whether weights are to be raised, else lowered; a term that needs the other keeps its weight.
    """
    terms = moment["terms"]
    labels = sum(terms[name]["norm"] or 0.0 for name in objective["label_terms"] if name in terms)
    norms = {name: terms[name]["norm"] for name in names if name in terms and terms[name]["norm"]}
    factors = {name: _share(objective, name) * labels / norm for name, norm in norms.items()}
    factors = {name: factor for name, factor in factors.items() if factor and (factor > 1) == higher}
    is_free = (result.get("settings") or {}).get("kd.balance", "") is None
    lowers = not moment["progress"]  # it looks at the first step alone: what drowns the labels later may seem quiet
    balance = ("kd.balance=auto",) if is_free and factors and (higher or lowers) else ()
    return _scaled(result, objective, factors) + balance


def half_weights(result: Result, objective: Described) -> tuple[str, ...]:
    """Halve the weights of all terms beside the labels."""
    return _scaled(result, objective, dict.fromkeys(_added(result, objective), 0.5))


def tenth_weights(result: Result, objective: Described) -> tuple[str, ...]:
    """Divide the weights of all terms beside the labels by ten."""
    return _scaled(result, objective, dict.fromkeys(_added(result, objective), 0.1))


def _added(result: Result, objective: Described) -> list[str]:
    settings = result.get("settings") or {}
    names = [key.removeprefix("kd.weights.") for key in settings if key.startswith("kd.weights.")]
    return [name for name in names if name not in objective["label_terms"]]


def _scaled(result: Result, objective: Described, factors: Mapping[str, float]) -> tuple[str, ...]:
    """Return the overrides that multiply the weights of terms by factors; of a balanced run that of its shares."""
    settings = result.get("settings") or {}
    if settings.get("kd.balance") == "auto":
        return _scaled_share(settings, objective, factors)
    typed = (_weight_setting(settings, objective, name, factor) for name, factor in factors.items())
    return tuple(dict.fromkeys(filter(None, typed)))


def _scaled_share(settings: Mapping[str, Any], objective: Described, factors: Mapping[str, float]) -> tuple[str, ...]:
    """Return the override of the one share that all added terms then have, lower or higher than each has now."""
    if not factors:
        return ()
    factor: float = _mildest(factors.values())
    pick: Callable[..., float] = min if factor < 1 else max
    now = settings.get("kd.balance_share") or pick(objective["shares"].values(), default=SHARE)
    return (f"kd.balance_share={two_digits(factor * now)}",)


def _mildest(factors: Any) -> float:
    """Return the factor that changes the least: enough for one term, and not too much for the others."""
    return min(factors, key=lambda factor: max(factor, 1 / factor))


def _weight_setting(settings: Mapping[str, Any], objective: Described, name: str, factor: float) -> str:
    """Return the override that multiplies the weight of a term, beside that of the labels, by a factor.

    Returns:
        "" where no setting is known that does.
    """
    known = (objective["weight_settings"] or {}).get(name)
    weight = settings.get(f"kd.weights.{name}")
    labels = sum(settings.get(f"kd.weights.{each}") or 0.0 for each in objective["label_terms"])
    if known is None or not is_number(weight) or not weight:
        return ""
    setting = WeightSetting(**known)
    if not labels:
        return "" if setting.mixes else f"{setting.key}={two_digits(factor * weight)}"
    value = setting.value_for(factor * weight / labels, labels)
    if setting.mixes and value > 0.5:  # two digits of the labels' weight: at 1 they would have none
        return f"{setting.key}={format_value(round(1 - float(f'{1 - value:.2g}'), 9))}"
    return f"{setting.key}={two_digits(value)}"


def _share(objective: Described, name: str) -> float:
    return objective["shares"].get(name, SHARE)


def softer(result: Result, temperature: float) -> tuple[str, ...]:
    """Raise the temperature to one at which the answers say more."""
    settings = result.get("settings") or {}
    keys = [key for key in settings if key.startswith("kd.") and key.endswith(".temperature")]
    keys = [key for key in keys if not key.startswith("kd.terms.")] or keys
    keys = ["kd.temperature"] if "kd.temperature" in settings else keys
    return tuple(f"{key}={temperature:g}" for key in keys)


def new_images(result: Result, objective: Described) -> tuple[str, ...]:
    """Mix the images that the student learns from, where its method takes mixtures and not all are mixed already."""
    settings = result.get("settings") or {}
    if not objective["takes_mixtures"]:
        return ()
    mixed = {name: settings.get(f"train.student.{name}") or 0.0 for name in ("mixup", "cutmix")}
    free = [name for name, share in mixed.items() if not share]
    return (f"train.student.{free[0]}={HALF:g}",) if free and sum(mixed.values()) <= HALF else ()


def sources_of_images(result: Result, objective: Described) -> str:
    """Return words for the images that a student may learn from beside its own, of those that can be had."""
    settings, found = result.get("settings") or {}, []
    if new_images(result, objective):
        found.append("mixtures")
    if (result.get("choices") or {}).get("augment") != "strong":
        found.append("stronger views (augment=strong)")
    is_free = not settings.get("data.unlabelled") and settings.get("data.balance") != "sample"
    if objective["takes_unlabelled"] and is_free:
        found.append("images without labels (data.unlabelled=FOLDER)")
    return " or ".join(found) or "more photographs"


def more_capacity(result: Result) -> tuple[str, ...]:
    """Train the student twice as long, or make it twice as wide."""
    epochs, width = result["student"]["training"]["epochs"], (result.get("settings") or {}).get("student.width")
    wider = (f"student.width={format_value(2.0 * width)}",) if is_number(width) and 2 * width <= WIDEST else ()
    return (f"train.student.epochs={2 * epochs}", *wider)


def more_seeds(result: Result, seeds: int | None) -> tuple[str, ...]:
    """Repeat the run with other seeds."""
    first = result["seed"]
    return (f"-m seed={','.join(str(first + k) for k in range(seeds))}",) if seeds else ()


def two_digits(value: float) -> str:
    """Return a weight as typed, with two digits."""
    return format_value(float(f"{value:.2g}"))
