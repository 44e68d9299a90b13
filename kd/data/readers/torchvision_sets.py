"""The image classification data sets of ``torchvision.datasets``: their splits, labels, class names and files."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kd.data.fingerprint import content_key
from kd.runtime.text import closest, suggestion
from kd.store.store import Store, digest

Arguments = Mapping[str, Any]


class Splits(NamedTuple):
    """The arguments that choose each split; None for one that there is not."""

    train: Arguments
    test: Arguments | None = None
    val: Arguments | None = None


def _named(train: str = "train", test: str = "test", val: str | None = None) -> Splits:
    return Splits({"split": train}, {"split": test}, val and {"split": val})


FLAG, WHOLE = Splits({"train": True}, {"train": False}), Splits({})
SETS: dict[str, Splits] = {
    "Caltech101": WHOLE,
    "Caltech256": WHOLE,
    "Country211": _named(val="valid"),
    "DTD": _named(val="val"),
    "EMNIST": Splits({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "EuroSAT": WHOLE,
    "FER2013": _named(),
    "FGVCAircraft": _named(val="val"),
    "FashionMNIST": FLAG,
    "Flowers102": _named(val="val"),
    "Food101": _named(),
    "GTSRB": _named(),
    "Imagenette": _named(test="val"),
    "KMNIST": FLAG,
    "MNIST": FLAG,
    "OxfordIIITPet": _named("trainval"),
    "PCAM": _named(val="val"),
    "Places365": _named("train-standard", "val"),
    "QMNIST": FLAG,
    "RenderedSST2": _named(val="val"),
    "SEMEION": WHOLE,
    "STL10": _named(),
    "SUN397": WHOLE,
    "SVHN": _named(),
    "StanfordCars": _named(),
    "USPS": FLAG,
}
ELSEWHERE = {  # read by options of their own: CIFAR's pickles without running anything
    "CIFAR10": "data=cifar10",
    "CIFAR100": "data=cifar100",
    "ImageNet": "data=imagenet data.root=<folder>",
    "ImageFolder": "data=folder data.root=<folder>",
    "DatasetFolder": "data=folder data.root=<folder>",
}
LABELS = ("targets", "labels", "_labels", "y")  # attributes that hold a label for each image
SAMPLES = ("_samples", "samples", "imgs")  # or pairs with the label at the end
LINK = re.compile(r"https?://[^\s\"'{}]+")


class Row:
    """An image that torchvision decodes."""

    __slots__ = ("dataset", "label", "row")

    def __init__(self, dataset: Any, row: int, label: int):
        self.dataset, self.row, self.label = dataset, row, label

    def picture(self) -> Image.Image:
        picture, label = self.dataset[self.row]
        if int(label) != self.label:
            raise ValueError(f"torchvision gives it the label {int(label)}, and lists {self.label}")
        return picture


def canonical_name(name: Any) -> str:
    """Return the name of a class as torchvision writes it; any case is understood.

    Raises:
        ValueError: there is no such class, it is not for classification, or another option reads it.
    """
    from torchvision import datasets

    known = {each.lower(): each for each in (*datasets.__all__, *SETS)}
    found = known.get(str(name).lower())
    if found in ELSEWHERE:
        raise ValueError(f"data.name={name}: use {ELSEWHERE[found]}")
    if found is None:
        similar = [known[each] for each in closest(str(name).lower(), [each.lower() for each in SETS])]
        raise ValueError(f"data.name={name}: torchvision has no such data set{suggestion(similar) or f': {_listed()}'}")
    if found not in SETS:
        raise ValueError(f"data.name={found} is not a data set for image classification; these are: {_listed()}")
    return found


def _listed() -> str:
    return ", ".join(SETS)


def labels_of(dataset: Any) -> list[int]:
    """Return the label of each image.

    Raises:
        ValueError: images without labels.
    """
    labels = list(_labels(dataset))
    missing = sum(label is None or int(label) < 0 for label in labels)
    if missing:
        raise ValueError(f"{missing:,} of {len(labels):,} images have no label")
    return [int(label) for label in labels]


def _labels(dataset: Any) -> Iterable[Any]:
    for name in LABELS:
        if _fits(found := getattr(dataset, name, None), dataset):
            return found
    for name in SAMPLES:
        if _fits(found := getattr(dataset, name, None), dataset):
            return [each[-1] for each in found]
    return [dataset[row][1] for row in range(len(dataset))]  # it decodes every image for it


def _fits(values: Any, dataset: Any) -> bool:
    return values is not None and hasattr(values, "__len__") and len(values) == len(dataset)


def classes_of(dataset: Any, labels: Sequence[int]) -> list[str]:
    """Return the names of the classes, numbers if the data set has none."""
    count = max(labels) + 1
    names = next((found for name in ("classes", "categories") if (found := getattr(dataset, name, None))), ())
    names = [each if isinstance(each, str) else ", ".join(each) for each in names]
    return names if len(names) >= count and len(set(names)) == len(names) else [str(label) for label in range(count)]


def content_of(store: Store, dataset: Any) -> str:
    """Return the key of the arrays and files that an object of torchvision reads, whatever their place."""
    arrays, files = [], {}
    for value in vars(dataset).values():
        if hasattr(value, "numpy"):  # a tensor
            value = value.numpy()
        if isinstance(value, np.ndarray):
            arrays.append(hashlib.sha256(np.ascontiguousarray(value)).hexdigest())
        files |= {str(path): str(path) for path in _paths(value)}
    if not arrays and not files:  # it opens them for each image
        base = Path(getattr(dataset, "_base_folder", dataset.root))
        files = {str(path): str(path) for path in base.rglob("*") if path.is_file()}
    root = str(dataset.root)
    labelled = {label.removeprefix(root): path for label, path in files.items()}
    return digest({"arrays": arrays, "files": content_key(store, labelled)})


def _paths(value: Any) -> Iterator[Path]:
    """Yield the paths in a list of paths or of tuples that begin with one."""
    for each in value if isinstance(value, list | tuple) else ():
        first = each[0] if isinstance(each, tuple) and each else each
        if isinstance(first, str | Path) and ("/" in str(first)):
            yield Path(first)


def first_url(make_set: type) -> str | None:
    """Return a link in the source of a class, to test the connection; None if there is none."""
    found = LINK.search(inspect.getsource(make_set))
    return found[0] if found else None
