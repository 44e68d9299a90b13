"""Any image classification data set of the Hugging Face hub, by name, or in a folder of its library's formats.

https://huggingface.co/docs/datasets. A folder is what ``save_to_disk`` wrote, or Parquet files that are named after
their split. No code of a data set is run: since version 4, the oldest that is used, the library cannot.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from kd.data.checks import folder_of, name_setting
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.fingerprint import content_key
from kd.data.listing import Listing, check_settings, open_listing
from kd.data.readers.columns import listing_of
from kd.data.readers.split_names import AUTO, choose_splits
from kd.data.readers.tables import ArrowTable, TableFiles, tables_in
from kd.data.sizing import Sizing
from kd.runtime.connection import check_reachable
from kd.runtime.errors import first_line, is_write_error
from kd.runtime.user_warnings import warn_user
from kd.store.store import Store

PAGE = "https://huggingface.co/datasets"


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    name: str | None = None,
    config: str | None = None,
    root: str | None = None,
    image_column: str = AUTO,
    label_column: str = AUTO,
    train_split: str = AUTO,
    test_split: str | None = AUTO,
    val_split: str | None = AUTO,
    test_fraction: float = 0.2,
    white: float | None = None,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open ``root``, or the data set ``name`` of the hub, which the library downloads into its own cache.

    Args:
        config: one of the data set's configurations, if it has several.
        image_column, label_column: "auto" finds them.
        train_split, test_split, val_split: "auto" finds usual names, see ``choose_splits``.
        test_fraction: of every class; used only without a test split.
        white, on_bad_file, on_leak: as for ``kd.data.datasets.folder``.

    Raises:
        FileNotFoundError: the data set is not on this machine, and the hub does not answer.
        ValueError: columns or splits that are not there, with the names of those that are.
    """
    check_settings(val_fraction, on_bad_file, on_leak, white)
    if (name is None) == (root is None):
        both = "" if name is None else ", not both"
        raise ValueError(f"data=huggingface needs data.name=<name on the hub> or data.root=<folder>{both}")
    if root is not None and config is not None:
        raise ValueError("data.config chooses a configuration of a data set on the hub: it needs data.name")
    if importlib.util.find_spec("datasets") is None:
        raise ValueError("data=huggingface needs the library datasets: pip install 'kd[huggingface]'")
    with name_setting("name", name) if root is None else name_setting("root", root):
        tables = fetch(str(name), config) if root is None else tables_in(folder_of(root))
        chosen = choose_splits(tables, train_split, test_split, val_split)
        files = {f"{split}/{path.name}": str(path) for split in chosen.names for path in tables[split].files}
        settings: dict[str, Any] = {"splits": list(chosen), "columns": [image_column, label_column]}
        if chosen.test is None:
            settings |= {"seed": seed, "test_fraction": test_fraction}
        settings["content"] = content_key(store, files)

        def make() -> Listing:
            where = printable(root if name is None else name)
            opened = {split: tables[split].open() for split in chosen.names}
            return listing_of(where, opened, chosen, image_column, label_column).complete(test_fraction, seed)

        rest = (size, seed, val_fraction, on_bad_file, on_leak, white)
        dataset = open_listing(store, "huggingface", settings, make, *rest)
    if chosen.remark:  # after opening: the preflight check stops before, so it does not appear twice
        warn_user(f"{printable(root if name is None else name)}: {chosen.remark}")
    return dataset


def fetch(name: str, config: str | None) -> dict[str, TableFiles]:
    """Return the splits of a data set of the hub; from the library's cache alone if the hub does not answer."""
    import datasets

    if Path(name).exists():  # the library would read it
        raise ValueError(f"data.name={printable(name)} is a file or a folder here: set data.root={printable(name)}")
    unreachable = reason_to_stay_offline()
    try:
        with _offline() if unreachable else nullcontext():
            found = datasets.load_dataset(name, config)
    except Exception as error:  # no network, no such data set, several configurations, a full disk
        write_error = is_write_error(error)
        if write_error:
            raise OSError(
                f"{name} cannot be written to the cache of the library datasets ({write_error})\n"
                "Set HF_HOME to a writable folder with enough space"
            ) from error
        if unreachable:
            raise FileNotFoundError(
                f"{name} is not on this machine and could not be downloaded ({unreachable})\n"
                f"Where there is a network, save {PAGE}/{name} with load_dataset({name!r}).save_to_disk(FOLDER), "
                "bring the folder here and set data.root=FOLDER"
            ) from error
        text = " ".join(str(error).split())
        raise ValueError(f"{text}{' (set data.config)' if 'config' in text.lower() else ''}") from error
    return {
        split: TableFiles([Path(part["filename"]) for part in table.cache_files], lambda table=table: ArrowTable(table))
        for split, table in found.items()
    }


def reason_to_stay_offline() -> str:
    """Return why the hub cannot be asked, "" if it answers: its library would try for half a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        check_reachable(lambda seconds: get_session().head(constants.ENDPOINT, timeout=seconds))
    except Exception as error:  # of the library's HTTP client, which has changed
        return first_line(error)
    return ""


@contextmanager
def _offline() -> Iterator[None]:
    """Make the libraries use their caches; they read the variable of the environment only when they are imported."""
    from datasets import config
    from huggingface_hub import constants

    before = [(module, module.HF_HUB_OFFLINE) for module in (config, constants)]
    for module, _ in before:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in before:
            module.HF_HUB_OFFLINE = value
