"""What was made once is found again: content keys, one lock a key, atomic publication.

A key is made of the resolved settings that determine a thing and of nothing else: not of a path, a device, the time
or of what ran beside it. So two jobs that want one teacher train it once, and a command that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.runtime.console import print_line
from kd.store.files import _new_folder, find_damage, share_folder, write_manifest
from kd.store.locks import locked

KEY_DIGITS = 10  # hex digits of a key that stand in folder names: 40 bits
LONGEST = 180  # bytes of a name before its key: file systems take 255, and files beside a folder add theirs


def digest(settings: Mapping[str, Any]) -> str:
    """Return the key of ``settings``: the same for equal values (4 and 4.0 are), whatever the order of their names.

    Raises:
        TypeError: when a value is not plain (str, number, bool, None, list, mapping).
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shortened(name: str) -> str:
    """What of a name of our own making can stand before a key in a folder's: ``LONGEST`` bytes, "図" has three."""
    return name.replace("/", "_").encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Store:
    """Folders under ``root``, each made once: ``root/<kind>/<name>``."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def path(self, kind: str, name: str) -> Path:
        return self.root / kind / name

    def run(self, name: str, key: str) -> Path:
        """Return the folder of the run with this key: where it lies, under whatever name, else where it will."""
        for folder in sorted((self.root / "runs").glob(f"*-{key[:KEY_DIGITS]}")):
            if (folder / "result.json").is_file():
                return folder
        return self.path("runs", name)

    def get_or_create(self, kind: str, name: str, make: Callable[[Path], None]) -> Path:
        """Return the published folder; where there is none, call ``make(empty_folder)`` and publish what it wrote.

        Whoever comes second, in this process or another, waits and finds. The operating system drops the lock of a
        process that dies, and what it had half written is never seen under the published name.
        """
        final, unfinished = self.path(kind, name), self.partial_dir(kind, name)
        if final.is_dir() and not find_damage(final):
            shutil.rmtree(unfinished, ignore_errors=True)  # of a maker that was killed at its very end
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".locks" / f"{kind}-{name}.lock", f"{kind}/{name}"):
            if final.is_dir():
                wrong = find_damage(final)
                if not wrong:
                    return final
                aside = _new_folder(final.parent, f"{name}.damaged-")
                os.replace(final, aside / name)
                print_line(f"{kind}/{name} is damaged ({wrong}): it is set aside as {aside.name} and made again")
            self.remove_partial(kind, name)
            beside = _new_folder(final.parent, f".{name}.")
            try:
                make(beside)
                write_manifest(beside, os.listdir(beside))
                share_folder(beside)
                os.replace(beside, final)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            shutil.rmtree(unfinished, ignore_errors=True)
        return final

    def remove_partial(self, kind: str, name: str) -> None:
        """Remove what a maker that was killed left half made; for who keeps others from making it."""
        for left_over in self.path(kind, name).parent.glob(f".{name}.*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def partial_dir(self, kind: str, name: str) -> Path:
        """Where ``make`` keeps what shall outlive it if it is killed; gone when the folder is published."""
        return self.root / "unfinished" / f"{kind}-{name}"
