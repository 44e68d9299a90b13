"""Choose training, test and validation among splits that have names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kd.data.class_folders import listed
from kd.data.layout import TEST, TRAIN, VAL
from kd.runtime.text import did_you_mean

AUTO = "auto"


class Chosen(NamedTuple):
    """Names of the splits."""

    train: str
    test: str | None  # None: a part of training is set aside
    val: str | None  # None: a part of training validates
    remark: str = ""  # for the user

    @property
    def names(self) -> list[str]:
        return [name for name in (self.train, self.test, self.val) if name is not None]


def choose_splits(names: Iterable[str], train: str = AUTO, test: str | None = AUTO, val: str | None = AUTO) -> Chosen:
    """Return the splits to use; "auto" finds usual names, and a validation split is the test if there is no other.

    Raises:
        ValueError: for names that are not there, one name for two splits, or several splits of unusual names.
    """
    names = list(names)
    usual = {kind: next((name for name in names if name.lower() in kind), None) for kind in (TRAIN, TEST, VAL)}
    for setting, value in {"train_split": train, "test_split": test, "val_split": val}.items():
        if value is not None and value != AUTO and value not in names:
            hint = did_you_mean(str(value), names) or f": there are {listed(names)}"
            raise ValueError(f"data.{setting}={value} is not there{hint}")
    if train == AUTO:
        train = usual[TRAIN] or (names[0] if len(names) == 1 else None)
        if train is None:
            raise ValueError(f"which split is for training? Choose one with data.train_split: {listed(names)}")
    others = {name for name in (train, *([] if val in (None, AUTO) else [val])) if name}
    remark = ""
    if test == AUTO:
        test = usual[TEST] if usual[TEST] not in others else None
        if test is None and usual[VAL] is not None and usual[VAL] not in others:
            test, remark = usual[VAL], f"there is no split for the test, so {usual[VAL]} is (data.test_split)"
    if val == AUTO:
        val = usual[VAL] if usual[VAL] not in (train, test) else None
    chosen = Chosen(train, test, val, remark)
    if len(set(chosen.names)) < len(chosen.names):
        raise ValueError(f"one split has two purposes: training {train}, test {test}, validation {val}")
    return chosen
