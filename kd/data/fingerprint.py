"""Content key of a set of files, remembered in the store: 10,000 files are hashed once, then only listed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kd.data.files import is_regular_file
from kd.store.files import write_text
from kd.store.store import Store, digest


def content_key(store: Store, files: Mapping[str, str]) -> str:
    """Return one sha256 over all labels and the bytes of their files, independent of the order.

    Paths and dates do not enter, so a tree that is copied or touched keeps its key; it is only hashed once more. The
    store remembers the key by path, size and dates of every file. All unreadable files count alike, whatever the
    reason; pipes and the like are not opened.

    Args:
        files: ``{label: path}``; the label is the part of a file's name that matters, such as ``train/cat/1.jpg``.
    """
    files = dict(sorted(files.items()))
    # Dates are read before bytes: a file that changes in between has a new date next time. The change time is used
    # as well as the modification time because copying tools set the latter back.
    stats = [is_regular_file(path) for path in files.values()]
    manifest = [
        [label, os.path.abspath(path), *((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) if stat else ())]
        for (label, path), stat in zip(files.items(), stats, strict=True)
    ]
    remembered = store.path("manifests", digest({"files": manifest}) + ".json")
    try:
        return json.loads(remembered.read_text(encoding="utf-8"))["content"]
    except (FileNotFoundError, ValueError, KeyError):  # it is missing or truncated
        pass
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(lambda path, stat: stat and _sha256(path), files.values(), stats))
    content = digest({"files": list(zip(files, hashes, strict=True))})
    if all(hashes[row] for row, stat in enumerate(stats) if stat):  # an unreadable file may be readable next time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_text(remembered, json.dumps({"content": content, "files": len(files)}))
    return content


def _sha256(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
