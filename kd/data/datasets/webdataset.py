"""Tar shards of WebDataset: images and labels side by side in archives, ``shard-{000000..000009}.tar``.

https://github.com/webdataset/webdataset. Its library is not needed. A name may be a path, also with ``*``, or a link,
which is downloaded into the store. Commands (``pipe:``), which the library runs, are refused.
"""

from __future__ import annotations

import glob
import os
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.checks import folder_of, name_setting
from kd.data.class_folders import in_order
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.fingerprint import content_key
from kd.data.listing import TEST, TRAIN, VAL, Listing, check_settings, open_listing
from kd.data.readers.braces import expand_braces
from kd.data.readers.shards import AUTO, samples_in
from kd.data.sizing import Sizing
from kd.runtime.class_names import read_class_names as names_in
from kd.runtime.connection import check_url
from kd.runtime.errors import is_write_error
from kd.runtime.text import first_few
from kd.store.store import KEY_DIGITS, Store, digest

Names = str | Sequence[str]
MOST_CLASSES = 100_000  # numbers that are larger are no classes, but identifiers
LINKS = ("http://", "https://")


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    urls: str | Sequence[str] | None = None,
    test_urls: str | Sequence[str] | None = None,
    val_urls: str | Sequence[str] | None = None,
    root: str | None = None,
    class_names: str | None = None,
    image_key: str = AUTO,
    label_key: str = AUTO,
    test_fraction: float = 0.2,
    white: float | None = None,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the shards ``urls``, with those of test and validation if there are any.

    Args:
        root: the folder to which paths are relative; null is the working directory.
        class_names: a file with the name of a class on each line, for labels that are numbers.
        image_key, label_key: suffixes of images and labels; "auto" finds them, see ``samples_in``.
        test_fraction: of every class; used only without ``test_urls``.
        white, on_bad_file, on_leak: as for ``kd.data.datasets.folder``.

    Raises:
        FileNotFoundError: a shard is not there, or cannot be downloaded.
        ValueError: a shard or a sample cannot be used.
    """
    check_settings(val_fraction, on_bad_file, on_leak, white)
    if urls is None:
        raise ValueError("data=webdataset needs data.urls=<shards>, such as 'data.urls=\"train-{000..009}.tar\"'")
    top = folder_of(root) if root is not None else Path()
    given = {TRAIN: ("urls", urls), VAL: ("val_urls", val_urls), TEST: ("test_urls", test_urls)}
    shards: dict[int, list[Path]] = {}
    for part, (setting, value) in given.items():
        if value is not None:
            with name_setting(setting, value):
                shards[part] = find_shards(store, value, top)
    names = read_class_names(class_names, top) if class_names is not None else None
    settings: dict[str, Any] = {"keys": [image_key, label_key], "class_names": names}
    settings["shards"] = {str(part): len(paths) for part, paths in shards.items()}
    if test_urls is None:
        settings |= {"seed": seed, "test_fraction": test_fraction}
    files = {f"{part}/{number:07}": str(path) for part in shards for number, path in enumerate(shards[part])}
    settings["content"] = content_key(store, files)

    def make() -> Listing:
        samples, split = [], []
        for part, paths in shards.items():
            with name_setting(*given[part]):
                found = list(samples_in(paths, image_key, label_key))
            samples += found
            split += [part] * len(found)
        classes, labels = number_labels([sample.label for sample in samples], names)
        return Listing(
            printable(first_few(expand(urls), 2)),
            classes,
            [f"{('train', 'val', 'test')[part]}/{sample.name}" for part, sample in zip(split, samples, strict=True)],
            [sample.image for sample in samples],
            labels,
            np.array(split),
            may_lack=True,
        ).complete(test_fraction, seed)

    with name_setting("urls", urls):
        rest = (size, seed, val_fraction, on_bad_file, on_leak, white)
        return open_listing(store, "webdataset", settings, make, *rest)


def expand(urls: Names) -> list[str]:
    """Return the names of all shards."""
    return [name for each in ([urls] if isinstance(urls, str) else urls) for name in expand_braces(str(each))]


def find_shards(store: Store, urls: Names, top: Path) -> list[Path]:
    """Return the files of all shards; links are downloaded into the store, each once."""
    paths: list[Path] = []
    for name in expand(urls):
        if name.startswith(LINKS):
            paths.append(download(store, name))
        elif name.startswith("file:"):
            paths.append(Path(urllib.request.url2pathname(name.removeprefix("file:").removeprefix("//"))))
        elif ":" in name and not (top / name).exists():
            raise ValueError(f"{printable(name)} is neither a path nor a link of {' or '.join(LINKS)}")
        elif "*" in name:
            paths += sorted(Path(found) for found in glob.glob(str(top / Path(name).expanduser())))
        else:
            paths.append(top / Path(name).expanduser())
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        where = first_few([printable(path.absolute()) for path in missing], 3) or printable(top.absolute())
        root = f" in data.root={printable(top)}" if str(top) != "." else ""
        raise FileNotFoundError(f"there is no shard {printable(first_few(expand(urls), 2))}{root} (looked for {where})")
    twice = len(paths) - len({os.path.realpath(path) for path in paths})
    if twice:
        raise ValueError(f"{twice:,} of the shards are named twice")
    return paths


def download(store: Store, url: str) -> Path:
    """Return the file of a link; the first call downloads it into the store."""

    def fetch(to: Path) -> None:
        check_url(url)
        urllib.request.urlretrieve(url, to / "shard.tar")  # noqa: S310  a link of http

    try:
        return store.get_or_create("downloads", f"shard-{digest({'url': url})[:KEY_DIGITS]}", fetch) / "shard.tar"
    except Exception as error:  # URLError, HTTPError, a connection that ends early
        if is_write_error(error):
            raise
        raise FileNotFoundError(
            f"{printable(url)} could not be downloaded ({' '.join(str(error).split())})\n"
            "Bring the shards here and set data.urls=<their paths>"
        ) from error


def read_class_names(path: str, top: Path) -> list[str]:
    """Return the names of the classes, one on each line."""
    given = Path(str(path)).expanduser()
    found = next((place for place in (given, top / given) if place.is_file()), None)
    if found is None or found.stat().st_size > 2**24:
        raise ValueError(f"data.class_names={printable(path)} is no file of one name on each line")
    return list(map(printable, names_in(found, "data.class_names")))


def number_labels(labels: Sequence[int | str], names: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
    """Return the classes and the number of each label.

    Labels are numbers from 0, whose names are given or are numbers, or names themselves.

    Raises:
        ValueError: for numbers and names among each other, and numbers without a name.
    """
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        some = next(label for label in labels if isinstance(label, str))
        raise ValueError(f"some labels are numbers, and others names such as {printable(some[:40])}")
    if kinds == {str}:
        classes = list(names) if names is not None else in_order(set(labels))
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            raise ValueError(f"data.class_names does not have {first_few(map(printable, unknown), 5)}")
        place = {name: number for number, name in enumerate(classes)}
        return [printable(name) for name in classes], np.array([place[label] for label in labels], np.int64)
    least, most = min(labels), max(labels)
    count = len(names) if names is not None else min(most + 1, MOST_CLASSES)
    if least < 0 or most >= count:
        raise ValueError(f"labels must lie in 0..{count - 1}, found {least if least < 0 else most}")
    return list(names or map(str, range(count))), np.array(labels, np.int64)
