"""What a network's file says of itself: enough to build it, to prepare images for it and to name its answers.

``student.safetensors`` and the exported files carry it as metadata, flat strings under the names of the fields. Lists
and settings are JSON. A file that was sent to somebody needs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import kd
from kd.data.bit_depth import White
from kd.data.sizing import Sizing
from kd.models.normalized import check_statistics
from kd.runtime.values import is_number

VERSION = 1  # of the metadata; raise it when an older kd cannot read them
TEXTS = ("role", "name", "key", "data", "fit", "layout", "kd_version")
LARGEST_SIDE = 4_096  # pixels: what somebody else's file says may be anything


@dataclass(frozen=True)
class Description:
    """A network, the images that it takes, and its classes."""

    network: Mapping[str, Any]  # see ``kd.inference.assemble.assemble``; plain values
    classes: tuple[str, ...]  # in the order of the logits
    image_size: int  # pixels a side
    stored_size: int  # pixels a side to which an image is resized first; see ``kd.data.sizing.Sizing``
    role: str = "student"  # teacher, student, baseline
    name: str = ""  # of the run
    key: str = ""  # of the run
    data: str = ""  # name of the data set
    fit: str = "crop"  # of images that are not square: crop, pad, squash
    crop_pct: float = 1.0  # share of the stored side that is shown
    channels: int = 3  # of the data set's images; 1: an image becomes grey first
    white: tuple[float, bool] = tuple(White())  # of images of more than 8 bits a channel
    channels_last: bool = True  # the memory format in which the run evaluated
    eval_batch: int = 128  # images of a batch in the run's evaluation; rounding differs with it
    layout: str = "kd"  # names of the tensors: "kd", or "timm" without the normalisation
    mean: tuple[float, ...] | None = None  # of the input; None: the file's tensors hold mean and std
    std: tuple[float, ...] | None = None
    kd_version: str = kd.__version__
    version: int = VERSION

    def __post_init__(self):
        for name in ("classes", "white", "mean", "std"):  # JSON has lists
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    @property
    def sizing(self) -> Sizing:
        return Sizing(self.image_size, self.stored_size, self.fit, self.crop_pct)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON; those that are None are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in sorted(values.items())
            if value is not None
        }

    def to_metadata(self) -> dict[str, str]:
        """Return the fields as strings, for the metadata of a file."""
        return {
            name: value if name in TEXTS else json.dumps(value, ensure_ascii=False, sort_keys=True)
            for name, value in self.to_dict().items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None, where: str) -> Description:
        """Read the metadata of a file.

        Args:
            where: names the file, for an error.

        Raises:
            ValueError: the file does not describe itself, or its description is damaged or of a newer kd.
        """
        if not metadata or "network" not in metadata or "classes" not in metadata:
            raise ValueError(
                f"{where} does not say which network it holds. kd.run writes that into student.safetensors; run the "
                "same command again to add it to the file of an earlier version"
            )
        try:
            values = {
                name: text if name in TEXTS else json.loads(text)
                for name, text in metadata.items()
                if name in {field.name for field in fields(cls)}
            }
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: its description is not readable: {error}") from error
        return cls.from_dict(values, where)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Description:
        """Read the fields of ``to_dict``; others are ignored.

        Raises:
            ValueError: see ``from_metadata``.
        """
        version = values.get("version", VERSION)
        if not isinstance(version, int):
            raise ValueError(f"{where}: its description is damaged: version must be a whole number, got {version!r}")
        if version > VERSION:
            raise ValueError(f"{where} was written by a newer kd, {values.get('kd_version')}: this is {kd.__version__}")
        known = {field.name for field in fields(cls)}
        try:
            found = cls(**{name: value for name, value in values.items() if name in known})
            _check(found)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{where}: its description is damaged: {error}") from error
        return found


def _check(found: Description) -> None:
    """Raise ValueError for a value that no kd writes."""
    found.sizing  # noqa: B018  it checks its numbers
    white = White(*found.white)
    if not is_number(white.value) or white.value <= 0 or not isinstance(white.given, bool):
        raise ValueError(f"white must be a level above 0 and true or false, got {found.white!r}")
    if not isinstance(found.channels_last, bool):
        raise ValueError(f"channels_last must be true or false, got {found.channels_last!r}")
    if found.stored_size > LARGEST_SIDE:
        raise ValueError(f"stored_size is {found.stored_size}, more than {LARGEST_SIDE}")
    if found.mean is not None or found.std is not None:
        check_statistics(found.mean, found.std)
    if not isinstance(found.network, Mapping) or not {"network", "ensemble"} & found.network.keys():
        raise ValueError("network must hold the settings of a network")
    if (
        not isinstance(found.classes, tuple)
        or not found.classes
        or not all(isinstance(name, str) for name in found.classes)
    ):
        raise ValueError("classes must be a list of names")
    if found.channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {found.channels!r}")
    if found.layout not in ("kd", "timm"):
        raise ValueError(f"layout must be kd or timm, got {found.layout!r}")
    if not isinstance(found.eval_batch, int) or found.eval_batch < 1:
        raise ValueError(f"eval_batch must be a whole number above 0, got {found.eval_batch!r}")
    for name in TEXTS:
        if not isinstance(getattr(found, name), str):
            raise ValueError(f"{name} must be text, got {getattr(found, name)!r}")
