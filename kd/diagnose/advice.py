"""The settings to try: overrides as one types them, from the settings of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.runtime.values import format_value, is_number

BALANCED = 0.5  # norm of a term's gradient over that of the labels': the default of kd.balance=auto
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
    return _scaled(result, names, BALANCED * own / norm) if own and norm else ()


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
    weights = {name: _weight(result, name) for name in names}
    return tuple(f"{weight_setting(result, name)}={two_digits(factor * w)}" for name, w in weights.items() if w)


def _weight(result: Result, name: str) -> float | None:
    value = (result.get("settings") or {}).get(f"kd.weights.{name}")
    return float(value) if is_number(value) else None


def weight_setting(result: Result, name: str) -> str:
    """Return the setting that weighs a term: the method's own ``kd.weight`` if it weighs this one alone."""
    settings, weight = result.get("settings") or {}, _weight(result, name)
    alike = [key for key in settings if key.startswith("kd.weights.") and settings[key] == weight]
    return "kd.weight" if len(alike) == 1 and settings.get("kd.weight") == weight else f"kd.weights.{name}"


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
