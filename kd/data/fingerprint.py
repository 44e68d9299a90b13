"""Name a set of files by what they hold, and remember the name: 10,000 files are hashed once, then only listed."""

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
    """Return one sha256 over every label and the bytes of its file, whatever their order.

    Paths and dates do not enter, so a tree that is copied or touched keeps its key; it is hashed once more and no
    more than that. The key is remembered in the store beside path, size and dates of every file. What is no file that
    can be read counts as that, whatever the reason, and is not opened if it is a pipe or the like.

    Args:
        files: ``{label: path}``; the label is what should count of a file's name, such as ``train/cat/1.jpg``.
    """
    files = dict(sorted(files.items()))
    # Dates are read before bytes: a file that changes in between is met with a new date next time. The change time
    # stands beside the modification time because copying tools set the latter back.
    stats = [is_regular_file(path) for path in files.values()]
    manifest = [
        [label, os.path.abspath(path), *((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) if stat else ())]
        for (label, path), stat in zip(files.items(), stats, strict=True)
    ]
    remembered = store.path("manifests", digest({"files": manifest}) + ".json")
    try:
        return json.loads(remembered.read_text(encoding="utf-8"))["content"]
    except (FileNotFoundError, ValueError, KeyError):  # there is none, or half of one
        pass
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(lambda path, stat: stat and _sha256(path), files.values(), stats))
    content = digest({"files": list(zip(files, hashes, strict=True))})
    if all(hashes[row] for row, stat in enumerate(stats) if stat):  # else it may be readable the next time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_text(remembered, json.dumps({"content": content, "files": len(files)}))
    return content


def _sha256(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
