"""The settings to try: overrides as one types them, from the settings of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.runtime.values import format_value, is_number

BALANCED = 0.5  # norm of a term's gradient over that of the labels': the default of kd.balance=auto
TINY = 1e-6
WIDEST = 4.0  # student.width up to which the tiny networks are useful

Result = Mapping[str, Any]
Measured = Sequence[Mapping[str, Any]]


def better_teacher(result: Result) -> tuple[str, ...]:
    """Train the teacher twice as long, if it was trained here."""
    epochs = result["teacher"]["training"]["epochs"]
    return (f"train.teacher.epochs={2 * epochs}",) if epochs else ("teacher=convnext_atto teacher.pretrained=true",)


def balanced_weights(
    result: Result, measured: Measured, names: Sequence[str], labels: Sequence[str]
) -> tuple[str, ...]:
    """Give terms the weights at which their gradients at the start are together ``BALANCED`` times the labels'."""
    first = measured[0]["terms"]
    own, norm = (sum(first.get(name, {}).get("norm") or 0.0 for name in of) for of in (labels, names))
    balance = ("kd.balance=auto",) if (result.get("settings") or {}).get("kd.balance", "") is None else ()
    return (*_scaled(result, names, BALANCED * own / norm), *balance) if own and norm else balance


def half_weights(result: Result, labels: Sequence[str]) -> tuple[str, ...]:
    """Halve the weights of all terms beside the labels."""
    return _scaled(result, _added(result, labels), 0.5)


def tenth_weights(result: Result, labels: Sequence[str]) -> tuple[str, ...]:
    """Divide the weights of all terms beside the labels by ten."""
    return _scaled(result, _added(result, labels), 0.1)


def _added(result: Result, labels: Sequence[str]) -> list[str]:
    settings = result.get("settings") or {}
    names = [key.removeprefix("kd.weights.") for key in settings if key.startswith("kd.weights.")]
    return [name for name in names if name not in labels]


def _scaled(result: Result, names: Sequence[str], factor: float) -> tuple[str, ...]:
    return tuple(typed for name in names if (typed := _weight_setting(result.get("settings") or {}, name, factor)))


def _weight_setting(settings: Mapping[str, Any], name: str, factor: float) -> str:
    """Return the override that multiplies the weight of a term, beside that of the labels, by a factor.

    It is the method's own ``kd.alpha`` or ``kd.weight`` if that weighs this term alone, else the term's weight.
    """
    weight, labels = (settings.get(f"kd.weights.{each}") for each in (name, "hard"))
    if not is_number(weight) or not weight:
        return ""
    if settings.get("kd.alpha") == weight and is_number(labels) and abs(1 - weight - labels) < TINY:
        ratio = factor * weight / max(labels, TINY)
        return f"kd.alpha={two_digits(ratio / (1 + ratio))}"
    alike = [key for key in settings if key.startswith("kd.weights.") and settings[key] == weight]
    alone = alike == [f"kd.weights.{name}"] and settings.get("kd.weight") == weight
    return f"{'kd.weight' if alone else f'kd.weights.{name}'}={two_digits(factor * weight)}"


def softer(result: Result, temperature: float) -> tuple[str, ...]:
    """Raise the temperature to one at which the answers say more."""
    settings = result.get("settings") or {}
    keys = [key for key in settings if key.startswith("kd.") and key.endswith(".temperature")]
    keys = [key for key in keys if not key.startswith("kd.terms.")] or keys
    keys = ["kd.temperature"] if "kd.temperature" in settings else keys
    return tuple(f"{key}={temperature:g}" for key in keys)


def new_images(result: Result) -> tuple[str, ...]:
    """Mix the images that the student learns from."""
    settings = result.get("settings") or {}
    for name in ("mixup", "cutmix"):
        if not settings.get(f"train.student.{name}"):
            return (f"train.student.{name}=0.5",)
    return ()


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
