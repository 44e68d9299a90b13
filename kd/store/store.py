"""Content-addressed artifact store: one lock per key, atomic publication.

A key is a hash of the settings that determine an artifact, and of nothing else. That of a network, a logit cache or a
run contains no path, device or time; that of costs contains the machine, to which a latency belongs. So two jobs that
need the same teacher train it once, and a killed command resumes when it is started again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kd.runtime.console import print_line
from kd.store.files import find_damage, make_folder, share_folder, write_manifest
from kd.store.locks import locked, locked_at_once

KEY_DIGITS = 10  # hex digits of a key in folder names: 40 bits
Publish = Callable[[Callable[[Path], None]], None]
LONGEST = 180  # bytes of a name before its key: file systems allow 255, and related files add suffixes


def digest(settings: Mapping[str, Any]) -> str:
    """Return the key of ``settings``: equal for equal values (4 and 4.0 are equal), in any order of their names.

    Raises:
        TypeError: a value is not plain (str, number, bool, None, list, mapping).
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shortened(name: str) -> str:
    """Return a name cut to fit before a key in a folder's name: ``LONGEST`` bytes; "図" has three."""
    return name.replace("/", "_").encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Store:
    """Folders ``root/<kind>/<name>``, each made once."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def path(self, kind: str, name: str) -> Path:
        return self.root / kind / name

    def run(self, name: str, key: str) -> Path:
        """Return the folder of the run with this key: the existing one, under any name, else that of this name."""
        for folder in sorted((self.root / "runs").glob(f"*-{key[:KEY_DIGITS]}")):
            if (folder / "result.json").is_file():
                return folder
        return self.path("runs", name)

    def get_or_create(self, kind: str, name: str, make: Callable[[Path], None]) -> Path:
        """Return the published folder; if there is none, call ``make(empty_folder)`` and publish what it wrote.

        A second caller, in this process or another, waits and gets the same folder. The operating system releases the
        lock of a process that dies, and its partial output never appears under the published name.
        """
        final, in_progress = self.path(kind, name), self.partial_dir(kind, name)
        if final.is_dir() and not find_damage(final):
            shutil.rmtree(in_progress, ignore_errors=True)  # left by a process that was killed after publishing
            return final
        final.parent.mkdir(parents=True, exist_ok=True)  # before the lock: an error names this folder
        with locked(self._lock(kind, name), f"{kind}/{name}"):
            self._make(kind, name, make)
        return final

    @contextmanager
    def claim(self, kind: str, name: str) -> Iterator[Publish | None]:
        """Hold the lock of a folder that is to be made, inside the block; without waiting.

        Yields:
            A function that publishes the folder, as ``get_or_create``; None if it is there, or another process makes
            it.
        """
        with locked_at_once(self._lock(kind, name)) as held:
            final = self.path(kind, name)
            missing = held and (not final.is_dir() or bool(find_damage(final)))
            yield partial(self._make, kind, name) if missing else None

    def _lock(self, kind: str, name: str) -> Path:
        return self.root / ".locks" / f"{kind}-{name}.lock"

    def _make(self, kind: str, name: str, make: Callable[[Path], None]) -> None:
        """Make and publish a folder unless it is there. The caller must hold the lock."""
        final = self.path(kind, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            damage = find_damage(final)
            if not damage:
                return
            aside = make_folder(final.parent, f"{name}.damaged-")
            os.replace(final, aside / name)
            print_line(f"{kind}/{name} is damaged ({damage}): moved to {aside.name}, making it again")
        self.remove_partial(kind, name)
        partial_folder = make_folder(final.parent, f".{name}.")
        try:
            make(partial_folder)
            write_manifest(partial_folder, os.listdir(partial_folder))
            share_folder(partial_folder)
            os.replace(partial_folder, final)
        except BaseException:
            shutil.rmtree(partial_folder, ignore_errors=True)
            raise
        shutil.rmtree(self.partial_dir(kind, name), ignore_errors=True)

    def remove_partial(self, kind: str, name: str) -> None:
        """Remove partial output of a killed process. The caller must hold the lock."""
        for left_over in self.path(kind, name).parent.glob(f".{name}.*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def partial_dir(self, kind: str, name: str) -> Path:
        """Return the directory for work in progress that must survive a kill; removed when the folder is published."""
        return self.root / "unfinished" / f"{kind}-{name}"
