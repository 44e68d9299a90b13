"""The data sets of a sweep: accuracies compare where the very same images were tested, and nowhere else.

What was tested is told by what a run wrote down, the content of its test split, and not by the names of settings: two
folders may hold the same images, one folder other images than yesterday. ``data.root``, ``data.image_size`` or the
``data.seed`` of a test part that is set aside make another test set; ``data.val_fraction``, ``data.label_noise`` or
``data.train_images`` change what is learnt from, and students of both may be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.report.sweep.names import name_of, order
from kd.store.store import KEY_DIGITS, digest

if TYPE_CHECKING:
    from kd.report.sweep.aggregate import Group


TRAINING = ("data.augment.", "data.balance", "data.label_noise", "data.train_images")  # change no image of a test
SEED = "seed"  # teacher.seed and data.seed are settings like any other: runs that differ in them are not pooled


class Shown(NamedTuple):
    """The names of what a run was tested and validated on: equal for equal images."""

    test: str
    val: str


@dataclass(frozen=True)
class DataSet:
    """The groups of a sweep that were tested on the same images."""

    title: str  # what tells it from the others, "root = A"; "" for the only one
    names: tuple[str, ...]  # settings by whose values unfinished cells are known to be of this set
    keys: frozenset[tuple[Any, ...]]  # their values in this set
    groups: tuple[Group, ...]  # their values without those that the title says
    whole: tuple[Group, ...]  # the same, with all that was swept

    def has(self, values: Mapping[str, Any]) -> bool:
        """Whether a cell of these swept values, the seed among them, is known to be tested on these images."""
        return tuple(values.get(name) for name in self.names) in self.keys


def paired_with(results: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """What each run of a sweep was tested and validated on.

    An older run did not write it down: it has the images of a run of the same settings that did, else those that its
    settings of the data stand for, so that a set may be taken for two and never two for one.
    """
    known: dict[str, Shown] = {}
    for result in results:
        if content := result["data"].get("content"):
            known.setdefault(_by_settings(result).val, Shown(content["test"], content["val"]))
    found = []
    for result in results:
        by_settings, content = _by_settings(result), result["data"].get("content")
        found.append(Shown(content["test"], content["val"]) if content else known.get(by_settings.val, by_settings))
    return found


def is_of_images(key: str) -> bool:
    """Whether a setting, or the group itself, may change which images validate and test."""
    return key.split(".")[0] == "data" and not key.startswith(TRAINING)


def _by_settings(result: Mapping[str, Any]) -> Shown:
    data = {name: value for name, value in result["settings"].items() if name.startswith("data.")}
    seen = {name: value for name, value in data.items() if not name.startswith(TRAINING[:2])}
    whole = {**seen, **{name: result["data"][name] for name in ("name", "classes", "image_size", "test")}}
    test = {name: value for name, value in whole.items() if name != "data.val_fraction"}
    return Shown(digest(test)[: 2 * KEY_DIGITS], digest(whole)[: 2 * KEY_DIGITS])


def data_sets(groups: Sequence[Group]) -> list[DataSet]:
    """Divide groups by what they were tested on, each set named by the swept settings that tell it from the others."""
    tests = list(dict.fromkeys(group.test for group in groups))
    swept = list(dict.fromkeys(name for group in groups for name in group.values))
    of_data = [name for name in swept if name.split(".")[0] == "data"]
    telling = _telling(groups, of_data) or _telling(groups, [*swept, SEED]) or []
    names = tuple(dict.fromkeys([*of_data, *telling]))
    made = []
    for number, test in enumerate(tests, 1):
        whole = tuple(group for group in groups if group.test == test)
        places = sorted({place for group in whole for place in _places(group, telling)}, key=_order)
        fixed = {name: values[0] for name, values in zip(telling, zip(*places, strict=True), strict=True)}
        fixed = {name: value for name, value in fixed.items() if all(g.values.get(name) == value for g in whole)}
        title = " or ".join(name_of(dict(zip(telling, place, strict=True))) for place in places)
        if not telling:  # the images themselves were changed between two cells
            title = f"test set {number}" if len(tests) > 1 else ""
        keys = frozenset(place for group in whole for place in _places(group, names))
        bare = tuple(replace(g, values={n: v for n, v in g.values.items() if n not in fixed}) for g in whole)
        made.append((tuple(map(_order, places)), DataSet(title, names, keys, bare, whole)))
    return [each for _, each in sorted(made, key=lambda pair: pair[0])]


def _telling(groups: Sequence[Group], names: Sequence[str]) -> list[str] | None:
    """The fewest of the settings ``names``, the first ones, whose values say what was tested; None if none do."""
    for count in range(len(names) + 1):
        for some in combinations(names, count):
            found: dict[tuple[Any, ...], str] = {}
            pairs = [(place, group.test) for group in groups for place in _places(group, some)]
            if all(found.setdefault(place, test) == test for place, test in pairs):
                return list(some)
    return None


def _places(group: Group, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The values of these settings, of each seed where the seed is among them."""
    return [
        tuple(seed if name == SEED else group.values.get(name) for name in names)
        for seed in (group.seeds if SEED in names else group.seeds[:1])
    ]


def _order(place: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(map(order, place))
