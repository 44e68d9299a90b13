"""Tables of Hugging Face's formats: Arrow, which its library maps into memory, and Parquet, read part by part.

Parquet files are read directly, because the library would first copy all of them into Arrow files.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

from kd.data.files import printable
from kd.data.layout import TEST, TRAIN, VAL

GROUPS = 3  # of rows that are kept: threads that read images in order are in one or two


class Table(Protocol):
    """The images of a split."""

    features: Any  # datasets.Features, by column

    def __len__(self) -> int: ...

    def column(self, name: str) -> list:
        """Return all values of a column that holds no images."""

    def value(self, name: str, row: int) -> Any:
        """Return one value, an image encoded; called from several threads."""


class TableFiles(NamedTuple):
    """A split on the disk."""

    files: list[Path]
    open: Callable[[], Table]


def tables_in(root: Path) -> dict[str, TableFiles]:
    """Return the splits in a folder of ``save_to_disk`` or of Parquet files.

    Raises:
        FileNotFoundError: there is neither.
    """
    where = f"data.root={printable(root)}"
    if not root.is_dir():
        raise FileNotFoundError(f"{where} is not a folder (looked for {printable(root.absolute())})")
    if (root / "dataset_dict.json").is_file():
        try:
            names = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            folders = {name: root / name for name in names if re.fullmatch(r"\w[\w.-]*", name)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where}: dataset_dict.json is damaged") from error
    else:
        folders = {"train": root} if (root / "state.json").is_file() else {}
    if folders:
        return {name: TableFiles(_files(folder, "*"), partial(_saved, folder)) for name, folder in folders.items()}
    splits: dict[str, list[Path]] = {}
    for path in _files(root, "**/*.parquet"):
        splits.setdefault(split_of(path.relative_to(root)), []).append(path)
    if not splits:
        raise FileNotFoundError(f"{where} holds neither what save_to_disk writes nor Parquet files")
    return {name: TableFiles(paths, partial(ParquetTable, paths)) for name, paths in splits.items()}


def split_of(path: Path) -> str:
    """Return the split of a Parquet file: its usual name in that of the file or of a folder, else the file's name."""
    words = [re.split(r"[-_.\d]", path.name)[0], *(folder.name for folder in path.parents)]
    return next((word for word in words if word.lower() in (*TRAIN, *VAL, *TEST)), words[0] or "train")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("."))


def _saved(folder: Path) -> ArrowTable:
    from datasets import load_from_disk

    return ArrowTable(load_from_disk(str(folder)))


class ArrowTable:
    """A ``datasets.Dataset``."""

    def __init__(self, dataset: Any):
        self.features, self.dataset = dataset.features, dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self.dataset)

    def column(self, name: str) -> list:
        return self.dataset.select_columns([name])[:][name].to_pylist()

    def value(self, name: str, row: int) -> Any:
        return self.dataset[row][name][0].as_py()


class ParquetTable:
    """Parquet files with the same columns, one after another."""

    def __init__(self, paths: Sequence[Path]):
        from datasets import Features
        from pyarrow import parquet

        self.files = [parquet.ParquetFile(path) for path in paths]
        schema = self.files[0].schema_arrow
        for path, file in zip(paths, self.files, strict=True):
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"{paths[0].name} and {path.name} have different columns")
        self.features = Features.from_arrow_schema(schema)
        self.groups = [(file, number) for file in self.files for number in range(file.num_row_groups)]
        self.starts = [0, *accumulate(file.metadata.row_group(number).num_rows for file, number in self.groups)]
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self.starts[-1]

    def column(self, name: str) -> list:
        return [value for file in self.files for value in file.read([name])[name].to_pylist()]

    def value(self, name: str, row: int) -> Any:
        number = bisect_right(self.starts, row) - 1
        return self._group(name, number)[row - self.starts[number]].as_py()

    def _group(self, name: str, number: int) -> Any:
        with self._lock:  # a file has one position; the others wait for the same rows anyway
            if (name, number) not in self._kept:
                file, own = self.groups[number]
                self._kept[name, number] = file.read_row_group(own, [name])[name]
                if len(self._kept) > GROUPS:
                    self._kept.popitem(last=False)
            return self._kept[name, number]
