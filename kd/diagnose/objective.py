"""What the student learned from, as ``result.json`` says or, in an older one, as its settings and its terms do."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from kd.config.combine import HARD
from kd.config.weights import usual_share
from kd.data.samplers import check_sampler
from kd.runtime.values import is_number

TINY = 1e-6
KNOWN = "kd.methods."  # terms of this package are imported to ask what they read; other code is not


def objective_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``kd.pipeline.describe.describe_objective`` says of a run; of an older one what its terms say.

    What depends on code outside kd is None there, and so are the settings of the weights of a combination of methods.
    """
    settings, stored = result.get("settings") or {}, dict(result.get("objective") or {})
    return stored if "weight_settings" in stored else _of_terms(settings, result.get("choices") or {}) | stored


def _of_terms(settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """Return the description from the settings alone."""
    kinds = {key.split(".")[2]: str(kind) for key, kind in settings.items() if _names_a_term(key)}
    kinds = {name: kind for name, kind in kinds.items() if settings.get(f"kd.weights.{name}") != 0}
    terms = {name: _term(kind) for name, kind in kinds.items()}
    needs = {name: getattr(term, "needs", None) for name, term in terms.items()}
    known = bool(needs) and all(isinstance(each, frozenset) for each in needs.values())
    reads = sorted(frozenset().union(*needs.values())) if known else None
    labels = [name for name, kind in kinds.items() if kind.endswith(".CrossEntropy")]
    temperature = settings.get("kd.temperature")
    below_any_published = not isinstance(temperature, int | float) or temperature < 0.5  # of cosines, not of logits
    return {
        "reads": reads,
        "label_terms": labels,
        "temperature": None if below_any_published else float(temperature),
        "weight_settings": _weight_settings(settings, choices),
        "shares": {
            name: usual_share(each)
            for name, each in needs.items()
            if isinstance(each, frozenset) and name not in labels
        },
        "takes_mixtures": all(takes_mixtures(getattr(term, "sampler", None)) for term in terms.values())
        if known
        else None,
        "takes_unlabelled": bool(reads) and not any(getattr(term, "needs_labels", False) for term in terms.values())
        if known
        else None,
    }


def takes_mixtures(sampler: str | None) -> bool:
    """Whether mixtures of images go with what a method is shown: see ``kd.data.samplers``."""
    try:
        check_sampler(sampler, mixup=1.0)
    except ValueError:
        return False
    return True


def _weight_settings(settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, dict[str, Any]] | None:
    """Return the setting of each term's weight, guessed from equal values, where nothing speaks against the guess.

    None for ``kd=combine``, whose settings have other names.
    """
    method = choices.get("kd", "")
    if "+" in method or any(key.startswith(f"kd.{method}.") for key in settings):
        return None
    weights = {
        key.removeprefix("kd.weights."): value for key, value in settings.items() if key.startswith("kd.weights.")
    }
    of_terms = {key.rpartition(".")[2] for key in settings if key.startswith("kd.terms.")}
    free = {  # settings of the method that no term reads, so that they are weights
        key: value
        for key, value in settings.items()
        if key.startswith("kd.") and key.count(".") == 1 and is_number(value) and key[3:] not in of_terms
    }
    labels, found = weights.get(HARD), {}
    for name, weight in weights.items():
        keys = [key for key, value in free.items() if value == weight]
        alone = list(weights.values()).count(weight) == 1
        mixes = keys == ["kd.alpha"] and is_number(labels) and abs(1 - weight - labels) < TINY
        if name == HARD or len(keys) > 1 or (keys and not alone and not mixes) or (free and not keys):
            continue
        found[name] = {"key": keys[0] if keys else f"kd.weights.{name}", "mixes": mixes}
    return found


def _names_a_term(key: str) -> bool:
    return key.startswith("kd.terms.") and key.endswith("._target_") and key.count(".") == 3


def _term(kind: str) -> Any:
    """Return the class of a term; None if it is not kd's own, or no longer there."""
    room, _, name = kind.rpartition(".")
    try:
        return getattr(import_module(room), name, None) if kind.startswith(KNOWN) else None
    except ImportError:
        return None
