"""Samples of WebDataset's tar shards: members whose names differ after the first dot are one sample.

https://github.com/webdataset/webdataset. A shard is listed once, and an image is read from its place in the archive.
Nothing is unpacked, so the path of a member leads nowhere; links, devices and sparse files are left out.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd.data.files import printable, unreadable_reason
from kd.runtime.text import first_few

IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff", "gif", "jp2", "avif")
LABELS = ("cls", "json", "txt")  # in this order, if a sample has several
FIELDS = ("label", "cls", "class", "target", "class_id", "label_id", "category", "class_name")  # of JSON, in this order
MAX_LABEL_BYTES = 2**20
AUTO = "auto"


class Member:
    """A file in an archive."""

    __slots__ = ("offset", "path", "size")

    def __init__(self, path: str, offset: int, size: int):
        self.path, self.offset, self.size = path, offset, size

    def read(self, count: int = -1) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size if count < 0 else min(count, self.size))
        if count < 0 and len(data) < self.size:
            raise ValueError("the shard is truncated")
        return data


class Sample(NamedTuple):
    """One labelled image."""

    name: str  # shard and key, for messages
    image: Member
    label: int | str


def samples_in(shards: Sequence[Path], image_key: str = AUTO, label_key: str = AUTO) -> Iterator[Sample]:
    """Yield the samples of all shards, in order.

    Args:
        image_key: the suffix of images. label_key: the suffix of labels, such as ``cls``, or ``json.field``.

    Raises:
        ValueError: for a damaged shard, and for samples without one image and one label, naming them.
    """
    faults, seen = [], dict[str, str]()
    for shard in shards:
        shown = printable(shard.name)
        for key, members in _groups(shard):
            name = f"{shown}/{printable(key)}"
            if name in seen:
                faults.append(f"{name}: the key occurs twice")
                continue
            seen[name] = key
            try:
                image = _image(members, image_key)
                yield Sample(name, image, _label(members, label_key))
            except ValueError as error:
                faults.append(f"{name}: {error}")
    if faults:
        count = "1 sample" if len(faults) == 1 else f"{len(faults):,} samples"
        raise ValueError(f"{count} cannot be used:\n  {first_few(faults, 20, chr(10) + '  ')}")
    if not seen:
        raise ValueError(f"no sample is in {first_few([printable(shard.name) for shard in shards], 3)}")


def _groups(shard: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield (key, {suffix: member}) of consecutive members with the same key."""
    reason = unreadable_reason(str(shard))
    if reason:
        raise ValueError(f"{printable(shard)}: {reason}")
    key, members = None, dict[str, Member]()
    try:
        with tarfile.open(shard, "r:") as archive:
            place = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would keep all of them
                if member.size < 0 or member.offset_data <= place:  # old versions of Python would go round for ever
                    raise tarfile.ReadError("a member begins before the one before it")
                place = member.offset_data
                folder, _, file = member.name.rpartition("/")
                stem, dot, suffix = file.partition(".")
                if not member.isreg() or member.issparse() or not stem or not dot:
                    continue
                own = f"{folder}/{stem}" if folder else stem
                if own != key:
                    if members:
                        yield key, members
                    key, members = own, {}
                members.setdefault(suffix.lower(), Member(str(shard), member.offset_data, member.size))
            if 0 < os.path.getsize(shard) - archive.offset < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends within a header")
    except (tarfile.TarError, EOFError) as error:
        packed = shard.suffix in (".gz", ".tgz", ".xz", ".bz2", ".zst") or _is_compressed(shard)
        hint = ". Unpack it first: an image is read from its place in the archive" if packed else ""
        raise ValueError(f"{printable(shard)} is no tar archive, or damaged ({error}){hint}") from error
    if members:
        yield key, members


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _image(members: Mapping[str, Member], key: str) -> Member:
    """Return the image of a sample."""
    found = [suffix for suffix in members if suffix == key or (key == AUTO and suffix.split(".")[-1] in IMAGES)]
    if len(found) != 1:
        what = f"{len(found)} images ({', '.join(map(printable, found))}): choose one with data.image_key"
        raise ValueError(what if found else f"no image among {_listed(members)}")
    return members[found[0]]


def _label(members: Mapping[str, Member], key: str) -> int | str:
    """Return the label of a sample: a number, or the name of a class."""
    suffix, _, field = key.partition(".") if key not in members else (key, "", "")
    suffix = next((each for each in LABELS if each in members), None) if key == AUTO else suffix
    if suffix not in members:
        raise ValueError(f"no label among {_listed(members)}; data.label_key names its suffix")
    if members[suffix].size > MAX_LABEL_BYTES:
        raise ValueError(f"its label has {members[suffix].size:,} bytes")
    try:
        text = members[suffix].read().decode("utf-8").strip()
        value = _of_json(json.loads(text), field) if suffix.split(".")[-1] == "json" else text
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"its label in .{suffix} cannot be read ({error})") from error
    if isinstance(value, str) and value.strip("-").isascii() and value.lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"its label must be a number or a name, got {str(value)[:40]!r}")
    return value


def _of_json(value: Any, field: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    found = [each for each in ([field] if field else FIELDS) if each in value]
    if not found:
        raise ValueError(f"no label in its JSON, which has {_listed(value)}; data.label_key=json.<field> names it")
    return value[found[0]]


def _listed(names: Mapping[str, Any]) -> str:
    return first_few([printable(name) for name in names], 8) or "nothing"
