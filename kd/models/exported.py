"""A ``torch.export`` program as a black box: a teacher of any architecture, which shows logits alone.

Its owner writes one with an open batch, from a network in eval mode::

    batch = {"image": {0: torch.export.Dim("batch")}}  # by the name of forward's argument
    program = torch.export.export(network.eval(), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=batch)
    torch.export.save(program, "model.pt2")

torch's own loader unpickles what a program may carry beside its graph, and pickles run code. Here such programs are
refused. The graph itself is read by torch: take programs only from whom you would take Python.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.pt2_archive import constants

from kd.models.normalized import first_line

NEVER_PICKLED = "was not read: it carries a pickle, which could run code"
PICKLES = (constants.CUSTOM_OBJ_FILENAME_PREFIX, constants.OPAQUE_OBJ_FILENAME_PREFIX)


class Exported(nn.Module):
    """What stands in for a network: empty until ``read``, shows logits alone.

    Args:
        num_classes: K, that the program must answer with. image_size: side of the square input in pixels.
    """

    def __init__(self, num_classes: int, image_size: int):
        super().__init__()
        self.num_classes, self.image_size = num_classes, image_size
        self.program: nn.Module | None = None

    def read(self, path: Path) -> None:
        """Take the program of a .pt2 file.

        Raises:
            ValueError: no program, one with pickles in it, or one for other images, classes or a fixed batch.
        """
        refuse_pickles(path)
        try:
            self.program = torch.export.load(path).module()
        except Exception as error:
            raise ValueError(f"{path} is no program that torch.export.save wrote: {first_line(error)}") from error
        for count in (1, 3):
            image = torch.zeros(count, 3, self.image_size, self.image_size)
            try:
                with torch.no_grad():
                    logits = self.program(image)
            except Exception as error:
                raise ValueError(
                    f"{path} does not take {list(image.shape)}: {first_line(error)}\n"
                    "Export it for images of data.image_size, with the batch left open: "
                    'dynamic_shapes={"image": {0: torch.export.Dim("batch")}}, by the name of forward\'s argument.'
                ) from error
            if not isinstance(logits, Tensor) or logits.shape != (count, self.num_classes):
                shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ValueError(
                    f"{path} answers {count} images with {shown}; the data's {self.num_classes} classes "
                    f"want logits [{count}, {self.num_classes}]"
                )

    def train(self, mode: bool = True) -> Exported:
        """A program is in the mode that it was exported in, and says so with an error if asked for another."""
        self.training = mode
        return self

    def forward(self, image: Tensor) -> Tensor:
        if self.program is None:
            raise FileNotFoundError("teacher=exported is a program in a file: say which, teacher.checkpoint=model.pt2")
        return self.program(image)

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits [B, K] for want of a last map, and no maps."""
        return self(image), []

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor | None:
        return None if pre_logits else last


def refuse_pickles(path: Path) -> None:
    """Look at a .pt2 archive before torch does.

    Raises:
        ValueError: no such archive, or one in which torch's loader would unpickle anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not any(name.endswith("archive_format") for name in names):
                raise ValueError(f"{path} is no program of torch.export.save, or one of torch before 2.8: save it anew")
            for name in names:
                if name.endswith("_config.json"):
                    for entry in json.loads(archive.read(name))["config"].values():
                        if entry["use_pickle"] or entry["path_name"].startswith(PICKLES):
                            raise ValueError(f"{path} {NEVER_PICKLED} ({entry['path_name']})")
                elif name.endswith(".pt"):  # example inputs: torch falls back to a full pickle where this fails
                    blob = archive.read(name)
                    if blob:
                        torch.load(io.BytesIO(blob), weights_only=True)
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no program that torch.export.save wrote: {first_line(error)}") from error
    except Exception as error:
        if isinstance(error, ValueError | OSError):
            raise
        raise ValueError(f"{path} {NEVER_PICKLED}: {first_line(error)}") from error
