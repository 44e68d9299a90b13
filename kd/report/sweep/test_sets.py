"""The data sets of a sweep: accuracies are comparable only if they come from the same test images.

The digest that a run records of its test split's content decides, not the names of settings: two folders may hold the
same images, and one folder other images than yesterday. ``data.root``, ``data.image_size``, or ``data.seed`` if it
chooses the test images, make another test set. ``data.val_fraction``, ``data.label_noise`` and ``data.train_images``
only change the training, so their students are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.report.sweep.names import group_name, order
from kd.store.store import KEY_DIGITS, digest

if TYPE_CHECKING:
    from kd.report.sweep.aggregate import Group


TRAINING = ("data.balance", "data.labelled", "data.label_noise", "data.train_images")  # these change no test image
SEED = "seed"  # teacher.seed and data.seed are settings like any other: runs that differ in them are not pooled


class SplitDigests(NamedTuple):
    """Digests of the images that a run was tested and validated on: equal for equal images."""

    test: str
    val: str


@dataclass(frozen=True)
class DataSet:
    """The groups of a sweep that were tested on the same images."""

    title: str  # what distinguishes it from the others, "root = A"; "" for the only one
    names: tuple[str, ...]  # settings whose values assign unfinished cells to this set
    keys: frozenset[tuple[Any, ...]]  # their values in this set
    groups: tuple[Group, ...]  # without the values that are in the title
    whole: tuple[Group, ...]  # the same groups with all swept values

    def has(self, values: Mapping[str, Any]) -> bool:
        """Whether a cell with these swept values, including the seed, is known to be tested on these images."""
        return tuple(values.get(name) for name in self.names) in self.keys


def split_digests(results: Sequence[Mapping[str, Any]]) -> list[SplitDigests]:
    """Return the digests of the images that each run of a sweep was tested and validated on.

    Older runs recorded none. Such a run gets those of a run with the same settings that did, otherwise digests of its
    data settings. So one set may be taken for two, but never two for one.
    """
    known: dict[str, SplitDigests] = {}
    for result in results:
        if content := result["data"].get("content"):
            known.setdefault(_by_settings(result).val, SplitDigests(content["test"], content["val"]))
    digests = []
    for result in results:
        by_settings, content = _by_settings(result), result["data"].get("content")
        recorded = SplitDigests(content["test"], content["val"]) if content else None
        digests.append(recorded or known.get(by_settings.val, by_settings))
    return digests


def is_of_images(key: str) -> bool:
    """Whether a setting, or the group itself, may change the validation or test images."""
    return key.split(".")[0] == "data" and not key.startswith(TRAINING)


def _by_settings(result: Mapping[str, Any]) -> SplitDigests:
    data = {name: value for name, value in result["settings"].items() if name.startswith("data.")}
    seen = {name: value for name, value in data.items() if not name.startswith(TRAINING[:1])}
    whole = {**seen, **{name: result["data"][name] for name in ("name", "classes", "image_size", "test")}}
    test = {name: value for name, value in whole.items() if name != "data.val_fraction"}
    return SplitDigests(digest(test)[: 2 * KEY_DIGITS], digest(whole)[: 2 * KEY_DIGITS])


def data_sets(groups: Sequence[Group]) -> list[DataSet]:
    """Divide groups by their test images; each set is named by the swept settings that distinguish it."""
    tests = list(dict.fromkeys(group.test for group in groups))
    swept = list(dict.fromkeys(name for group in groups for name in group.values))
    of_data = [name for name in swept if name.split(".")[0] == "data"]
    deciding = _deciding(groups, of_data) or _deciding(groups, [*swept, SEED]) or []
    names = tuple(dict.fromkeys([*of_data, *deciding]))
    made = []
    for number, test in enumerate(tests, 1):
        whole = tuple(group for group in groups if group.test == test)
        places = sorted({place for group in whole for place in _places(group, deciding)}, key=_order)
        fixed = {name: values[0] for name, values in zip(deciding, zip(*places, strict=True), strict=True)}
        fixed = {name: value for name, value in fixed.items() if all(g.values.get(name) == value for g in whole)}
        title = " or ".join(group_name(dict(zip(deciding, place, strict=True))) for place in places)
        if not deciding:  # the image files changed between two cells
            title = f"test set {number}" if len(tests) > 1 else ""
        keys = frozenset(place for group in whole for place in _places(group, names))
        bare = tuple(replace(g, values={n: v for n, v in g.values.items() if n not in fixed}) for g in whole)
        made.append((tuple(map(_order, places)), DataSet(title, names, keys, bare, whole)))
    return [each for _, each in sorted(made, key=lambda pair: pair[0])]


def _deciding(groups: Sequence[Group], names: Sequence[str]) -> list[str] | None:
    """Return the fewest of the settings ``names`` whose values decide the test images; None if none do."""
    for count in range(len(names) + 1):
        for some in combinations(names, count):
            test_by_place: dict[tuple[Any, ...], str] = {}
            pairs = [(place, group.test) for group in groups for place in _places(group, some)]
            if all(test_by_place.setdefault(place, test) == test for place, test in pairs):
                return list(some)
    return None


def _places(group: Group, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the values of these settings; for each seed if the seed is among them."""
    return [
        tuple(seed if name == SEED else group.values.get(name) for name in names)
        for seed in (group.seeds if SEED in names else group.seeds[:1])
    ]


def _order(place: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(map(order, place))
