"""What was made once is found again: content keys, one lock a key, atomic publication.

A key is made of the resolved settings that determine a thing and of nothing else: not of a path, a device, the time
or of what ran beside it. So two jobs that want one teacher train it once, and a command that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd.progress import say

SHORT = 10  # hex digits of a key that stand in folder names: 40 bits


def digest(settings: Mapping[str, Any]) -> str:
    """Return the key of ``settings``: the same for equal values (4 and 4.0 are), whatever the order of their names.

    Raises:
        TypeError: when a value is not plain (str, number, bool, None, list, mapping).
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
        for folder in sorted((self.root / "runs").glob(f"*-{key[:SHORT]}")):
            if (folder / "result.json").is_file():
                return folder
        return self.path("runs", name)

    def obtain(self, kind: str, name: str, make: Callable[[Path], None]) -> Path:
        """Return the published folder; where there is none, call ``make(empty_folder)`` and publish what it wrote.

        Whoever comes second, in this process or another, waits and finds. The operating system drops the lock of a
        process that dies, and what it had half written is never seen under the published name.
        """
        final = self.path(kind, name)
        if final.is_dir():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with waiting(self.root / ".locks" / f"{kind}-{name}.lock", f"{kind}/{name}"):
            if final.is_dir():
                return final
            for left_over in final.parent.glob(f".{name}.*"):  # we hold the lock: nobody is writing there
                shutil.rmtree(left_over, ignore_errors=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=final.parent))
            try:
                make(beside)
                share(beside)
                os.replace(beside, final)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        return final


def share(folder: Path) -> None:
    """Let others read: mkdtemp's 0700 and safetensors' 0600 would shut out the colleagues who share the store."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


@contextmanager
def waiting(lock: Path, what: str) -> Iterator[None]:
    """Hold ``lock``; say so when somebody else does, for that may take as long as a training."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=2)
    except Timeout:
        say(f"waiting for {what}: another process is making it")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
