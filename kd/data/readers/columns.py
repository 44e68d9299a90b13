"""Find images and labels among the columns of a table, and list them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.class_folders import in_order, listed
from kd.data.files import printable, unreadable_reason
from kd.data.listing import TEST, TRAIN, VAL, Listing
from kd.data.readers.split_names import AUTO, Chosen
from kd.data.readers.tables import Table
from kd.runtime.text import did_you_mean, first_few

IMAGES = ("image", "img", "picture", "photo", "pixel_values")  # usual names, in this order
LABELS = ("label", "labels", "class", "category", "target")
WHOLE, TEXT = ("int", "uint", "bool"), ("string", "large_string")


class Cell:
    """An encoded image in a table: its bytes, or the path of its file."""

    __slots__ = ("column", "row", "table")

    def __init__(self, table: Table, column: str, row: int):
        self.table, self.column, self.row = table, column, row

    @property
    def size(self) -> int:
        data, path = self._value()
        return len(data) if data is not None else os.path.getsize(path)

    def read(self, count: int = -1) -> bytes:
        data, path = self._value()
        if data is not None:
            return data if count < 0 else data[:count]
        with open(path, "rb") as file:
            return file.read(count)

    def _value(self) -> tuple[bytes | None, str]:
        value = self.table.value(self.column, self.row)
        if not isinstance(value, Mapping):
            value = {"bytes": value}
        data, path = value.get("bytes"), value.get("path")
        if data is None:
            reason = unreadable_reason(path) if path else "there is no image in this row"
            if reason:
                raise ValueError(reason)
        return data, path or ""


def listing_of(
    where: str, tables: Mapping[str, Table], chosen: Chosen, image_column: str, label_column: str
) -> Listing:
    """Return the images and labels of the chosen splits, in their order.

    Raises:
        ValueError: for columns that are not found, and images without a label.
    """
    features = tables[chosen.train].features
    image, label = find_image_column(features, image_column), find_label_column(features, label_column)
    names, sources, values, split = [], [], [], []
    classes = getattr(features[label], "names", None)
    for part, number in ((chosen.train, TRAIN), (chosen.val, VAL), (chosen.test, TEST)):
        if part is None:
            continue
        table = tables[part]
        for column in (image, label):
            if column not in table.features:
                raise ValueError(f"the split {part} has no column {column}; it has {listed(table.features)}")
        if getattr(table.features[label], "names", None) != classes:
            raise ValueError(f"the column {label} names other classes in {part} than in {chosen.train}")
        found = table.column(label)
        _check_labels(part, found, classes)
        values += found
        names += [f"{part}/{row}" for row in range(len(table))]
        sources += [Cell(table, image, row) for row in range(len(table))]
        split += [number] * len(table)
    if classes is None:
        present = sorted(set(values)) if not isinstance(values[0], str) else in_order(set(values))
        place = {value: number for number, value in enumerate(present)}
        classes, values = [str(value) for value in present], [place[value] for value in values]
    classes = [printable(name) for name in classes]
    return Listing(where, classes, names, sources, np.array(values, np.int64), np.array(split), may_lack=True)


def _check_labels(part: str, values: Sequence[Any], classes: Sequence[str] | None) -> None:
    missing = [row for row, value in enumerate(values) if value is None or (classes is not None and value < 0)]
    if missing and len(missing) == len(values):
        raise ValueError(
            f"the split {part} has no labels. data.test_split=... or data.val_split=... chooses another; null takes a "
            "part of the training images"
        )
    if missing:
        rows = first_few(missing, 10)
        raise ValueError(f"{len(missing):,} of {len(values):,} images of {part} have no label: rows {rows}")


def find_image_column(features: Mapping[str, Any], given: str = AUTO) -> str:
    """Return the column of encoded images.

    Args:
        features: of the library, by column. given: the column, or "auto".
    """
    if given != AUTO:
        return _named("image_column", given, features)
    found = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    found = found or [name for name, feature in features.items() if _holds_bytes(feature)]
    return _only("image_column", "images", found, IMAGES, features)


def find_label_column(features: Mapping[str, Any], given: str = AUTO) -> str:
    """Return the column of labels: classes by name, or whole numbers or text of a column with a usual name."""
    if given != AUTO:
        name = _named("label_column", given, features)
        if not _is_class(features[name]):
            kind = getattr(features[name], "dtype", type(features[name]).__name__)
            raise ValueError(f"data.label_column={given} holds {kind}; labels are whole numbers or text")
        return name
    named = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    found = named or [name for name in features if name.lower() in LABELS and _is_class(features[name])]
    return _only("label_column", "labels", found, LABELS, features)


def _holds_bytes(feature: Any) -> bool:
    inner = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return getattr(inner, "dtype", "") in ("binary", "large_binary")


def _is_class(feature: Any) -> bool:
    dtype = str(getattr(feature, "dtype", ""))
    return dtype.startswith(WHOLE) or dtype in TEXT


def _named(setting: str, given: str, features: Mapping[str, Any]) -> str:
    if given not in features:
        hint = did_you_mean(given, features) or f": there are {listed(features)}"
        raise ValueError(f"data.{setting}={given} is not a column{hint}")
    return given


def _only(setting: str, what: str, found: Sequence[str], usual: Sequence[str], features: Mapping[str, Any]) -> str:
    named = [name for known in usual for name in found if name.lower() == known]
    if len(found) == 1 or named:
        return (named or found)[0]
    among = f"several columns hold {what}" if found else f"no column of {what} is found"
    raise ValueError(f"{among}: choose one with data.{setting}: {listed(found or features)}")
