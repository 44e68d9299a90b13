"""Any image classification data set of ``torchvision.datasets``, by its name there.

https://docs.pytorch.org/vision/stable/datasets.html. Constructors, splits and attributes differ from class to class:
torchvision_sets.py knows the splits, and what a class shows of its labels and files is found by looking.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.checks import folder_of, name_setting
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.listing import SPLITS, TEST, TRAIN, VAL, Listing, check_settings, open_listing
from kd.data.readers.torchvision_sets import SETS, Row, canonical_name, classes_of, content_of, first_url, labels_of
from kd.data.sizing import Sizing
from kd.runtime.connection import check_url
from kd.runtime.errors import is_write_error
from kd.store.store import KEY_DIGITS, Store, digest


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    name: str | None = None,
    root: str | None = None,
    options: Mapping[str, Any] | None = None,
    test_fraction: float = 0.2,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the class ``name`` of torchvision in ``root``; download the data set into the store if ``root`` is null.

    Args:
        root: the folder that the class is given, which holds its own folder.
        options: more arguments of the class, such as ``{partition: 2}`` for DTD.
        test_fraction: of every class; used only if the data set has no test split.

    Raises:
        FileNotFoundError: the data set is not there, or cannot be downloaded.
        ValueError: torchvision has no such data set, or it is not for classification.
    """
    check_settings(val_fraction, on_bad_file, on_leak, None)
    if name is None:
        raise ValueError("data=torchvision needs data.name=<a data set of torchvision>, such as Flowers102")
    name = canonical_name(name)
    splits, more = SETS[name], dict(options or {})
    parts = {TRAIN: splits.train, VAL: splits.val, TEST: splits.test}
    arguments = {part: {**own, **more} for part, own in parts.items() if own is not None}
    from torchvision import datasets

    make_set = getattr(datasets, name)
    _check_options(make_set, more, list(arguments.values()))
    with name_setting("name", name) if root is None else name_setting("root", root):
        folder = folder_of(root) if root is not None else download(store, make_set, arguments)
        opened = {part: _open(make_set, folder, own) for part, own in arguments.items()}
        labels = {part: labels_of(dataset) for part, dataset in opened.items()}
        settings: dict[str, Any] = {"set": name, **({"options": more} if more else {})}
        if splits.test is None:
            settings |= {"seed": seed, "test_fraction": test_fraction}
        settings["content"] = digest(
            {SPLITS[part]: [content_of(store, dataset), labels[part]] for part, dataset in opened.items()}
        )

        def make() -> Listing:
            every = [label for part in opened for label in labels[part]]
            return Listing(
                name,
                [printable(each) for each in classes_of(opened[TRAIN], every)],
                [f"{SPLITS[part]}/{row}" for part in opened for row in range(len(labels[part]))],
                [Row(opened[part], row, label) for part in opened for row, label in enumerate(labels[part])],
                np.array(every, np.int64),
                np.array([part for part in opened for _ in labels[part]]),
                may_lack=True,
            ).complete(test_fraction, seed)

        return open_listing(store, name.lower(), settings, make, size, seed, val_fraction, on_bad_file, on_leak)


def _check_options(make_set: type, options: Mapping[str, Any], arguments: Sequence[Mapping[str, Any]]) -> None:
    known = inspect.signature(make_set).parameters
    is_open = any(each.kind is each.VAR_KEYWORD for each in known.values())
    wrong = [option for option in options if option in ("root", "download") or (option not in known and not is_open)]
    if wrong:
        raise ValueError(f"data.options: {make_set.__name__} takes no {', '.join(wrong)} here")
    if any(own in arguments[:number] for number, own in enumerate(arguments)):
        raise ValueError(f"data.options={dict(options)} would make training and test the same images")


def _open(make_set: type, folder: Path, arguments: Mapping[str, Any], **more: Any) -> Any:
    """Make torchvision's object, which reads what is in ``folder`` and downloads nothing by itself."""
    if "download" in inspect.signature(make_set).parameters:
        more = {"download": False, **more}
    try:
        return make_set(root=str(folder), **arguments, **more)
    except ImportError as error:
        raise ValueError(f"{make_set.__name__} needs {error.name}: pip install {error.name}") from error
    except (RuntimeError, OSError) as error:  # not found or corrupted, a file that is missing
        if more.get("download"):
            raise
        reason = " ".join(str(error).split()).removesuffix(" You can use download=True to download it")
        raise FileNotFoundError(
            f"data.root={printable(folder)} does not hold {make_set.__name__} as torchvision lays it out ({reason})\n"
            f"It must be the folder that torchvision.datasets.{make_set.__name__}(root, download=True) fills"
        ) from error


def download(store: Store, make_set: type, arguments: Mapping[int, Mapping[str, Any]]) -> Path:
    """Return the folder of the data set; the first call downloads it into the store."""
    name = make_set.__name__

    def fetch(to: Path) -> None:
        if url := first_url(make_set):
            check_url(url)
        for own in arguments.values():
            _open(make_set, to, own, download=True)

    try:
        if "download" not in _parameters(make_set):
            raise RuntimeError("torchvision has no download of it")
        key = digest({"set": name, "arguments": list(arguments.values())})[:KEY_DIGITS]
        return store.get_or_create("downloads", f"torchvision-{name.lower()}-{key}", fetch)
    except Exception as error:  # URLError, RuntimeError for a wrong checksum, ValueError for a link that is gone
        if is_write_error(error):
            raise
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded ({' '.join(str(error).split())})\n"
            f"Set data.root=<the folder that torchvision.datasets.{name}(root, download=True) fills>"
        ) from error


def _parameters(make_set: type) -> set[str]:
    """Return the arguments of a class and of those it inherits from."""
    return {name for each in make_set.__mro__ for name in inspect.signature(each.__init__).parameters}
