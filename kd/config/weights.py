"""Which setting is the weight of which term, for messages that name one to change."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from kd.config.combine import HARD, place_of
from kd.config.keys import Tree, get_path, references
from kd.config.settings import override_key

# Measured at published weights before the first step, on Intel photographs at 48 x 48, a weak ResNet-18 to tiny_cnn: AT
# 63 times the labels' gradient, NST 10, FitNets 10, SP 9. On scenes such weights cost 27, 26 and 5 points of 84 % (SP
# was not tried), and weights of a tenth to a thirtieth, at 1 to 2 times the labels' gradient, 2 to 3 points. The two
# numbers were chosen after seeing these. CATKD, at 27 times with a cosine of 0.43, is not warned of.
DROWNS = 6.0  # times the labels' gradient from which a term is said to drown them,
ASIDE = 0.25  # unless its cosine with that is higher: logits of a teacher teach what the labels do
SHARE = 0.5  # of the labels' gradient: what ``kd.balance=auto`` gives a term where no share is set
SHARE_OF_LOGITS = 1.0  # the same for terms that read logits alone, which pull the way that the labels do


def usual_share(needs: Collection[str]) -> float:
    """Return the share of a term where ``kd.balance_share`` is not set.

    Args:
        needs: what it reads of the teacher.
    """
    return SHARE_OF_LOGITS if set(needs) <= {"logits"} else SHARE


class WeightSetting(NamedTuple):
    """A setting that determines the weight of a term."""

    key: str  # as you type it: kd.weight, or kd.at.weight with kd=combine
    mixes: bool = False  # the weight of the labels is 1 minus that of the term, as for kd.alpha

    def value_for(self, ratio: float, labels: float) -> float:
        """Return its value for a term that weighs ``ratio`` times the labels, whose weight now is ``labels``."""
        return ratio / (1 + ratio) if self.mixes else ratio * labels


def weight_settings(raw: Tree) -> dict[str, WeightSetting]:
    """Return the setting of each term's weight, by the name that the term has in the objective.

    Args:
        raw: the composed config with unresolved interpolations, before ``expand_combination``.
    """
    listed = get_path(raw, "kd.terms")
    if not isinstance(listed, list):
        return _of_method(raw, "kd")
    found = {}
    for name in map(str, listed):
        own = _of_method(raw, f"kd.{name}")
        if get_path(raw, f"kd.{HARD}") is not None:  # then no method mixes: the labels weigh what is set there
            own = {term: setting._replace(mixes=False) for term, setting in own.items()}
        found |= {place_of(name, term, [*own], len(listed)): setting for term, setting in own.items() if term != HARD}
    return found | {HARD: WeightSetting("kd.hard")}


def _of_method(raw: Tree, owner: str) -> dict[str, WeightSetting]:
    labels = f"{owner}.weights.{HARD}"
    mixing = {*references(get_path(raw, labels), labels)}
    keys = {term: override_key(raw, f"{owner}.weights.{term}") for term in get_path(raw, f"{owner}.weights") or {}}
    return {term: WeightSetting(key, key in mixing and term != HARD) for term, key in keys.items()}
