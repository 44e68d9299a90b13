"""A ``torch.export`` program as a black box: a teacher of any architecture, which shows logits alone.

Its owner writes one with an open batch, from a network in eval mode::

    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=batch)
    torch.export.save(program, "model.pt2")

A program is code. torch's loader unpickles what one carries, evaluates its symbolic shapes and may load libraries, so
one is opened only for who says ``teacher.trusted=true``.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.models.logits_only import LogitsOnly
from kd.runtime.errors import first_line

LARGE = 1024  # images: more than any batch that a run makes


class Exported(LogitsOnly):
    """What stands in for a network: empty until ``read``.

    Args:
        num_classes: K, that the program must answer with. image_size: side of the square input in pixels.
        trusted: whether the program may be loaded, which may run any code.
    """

    def __init__(self, num_classes: int, image_size: int, trusted: bool = False):
        super().__init__()
        self.num_classes, self.image_size, self.trusted = num_classes, image_size, trusted
        self.program: nn.Module | None = None

    def read(self, path: Path) -> None:
        """Take the program of a .pt2 file.

        Raises:
            ValueError: not trusted, no program, one for other images, classes or a bounded batch, one whose logits are
                not finite, or one that was exported while it was training.
        """
        kind = kind_of(path)
        if kind != "program":
            raise ValueError(f"{path} is no program that torch.export.save wrote: {OTHERS[kind]}")
        if not self.trusted:
            raise ValueError(
                f"{path} is a program, and loading one may run any code. If it is from somebody from whom you would "
                "run Python code, say teacher.trusted=true"
            )
        try:
            program = _load(path)
            self.program = program.module()
        except Exception as error:
            raise ValueError(f"{path} is no program that torch.export.save wrote: {first_line(error)}") from error
        most = min((int(span.upper) for span in program.range_constraints.values() if span.upper < LARGE), default=None)
        if most is not None:
            raise ValueError(f"{path} takes {most} images at most; {OPEN}")
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(3, 3, self.image_size, self.image_size, generator=generator)
        try:
            with torch.no_grad():
                logits, again, alone = self.program(image), self.program(image), self.program(image[:1])
        except Exception as error:
            shape = f"[B, 3, {self.image_size}, {self.image_size}]"
            raise ValueError(f"{path} does not take images {shape}: {first_line(error)}\n{OPEN}") from error
        if not isinstance(logits, Tensor) or logits.shape != (3, self.num_classes):
            shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"{path} answers 3 images with {shown}; the data's {self.num_classes} classes "
                f"want logits [3, {self.num_classes}]"
            )
        if not logits.isfinite().all():
            raise ValueError(
                f"{path} answers images with logits that are NaN or infinite: its weights are, or overflow"
            )
        if not torch.equal(logits, again) or not torch.allclose(logits[:1], alone, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{path} answers one image differently by itself, in a batch and twice: it was exported while it "
                "was training. Export network.eval()."
            )

    def train(self, mode: bool = True) -> Exported:
        """Of no effect: a program has the one mode that it was exported in."""
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any, **more: Any) -> Exported:
        """Move the graph where the weights go: it names the device that it was exported on."""
        super()._apply(fn, *rest, **more)
        like = next((tensor for tensor in (*self.parameters(), *self.buffers())), None)
        if isinstance(self.program, torch.fx.GraphModule) and like is not None:
            for node in self.program.graph.nodes:
                if "device" in node.kwargs:
                    node.kwargs = {**node.kwargs, "device": like.device}
            self.program.recompile()
        return self

    def forward(self, image: Tensor) -> Tensor:
        if self.program is None:
            raise FileNotFoundError("a program is in a file: say which, {teacher: exported, checkpoint: model.pt2}")
        return self.program(image)


def kind_of(path: Path) -> str:
    """What a file is, by the names in it alone: nothing in it is read.

    Returns:
        "program" of torch.export, "script" of torch.jit, "tensors" of torch.save, or "" for whatever else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.infolist()
    except Exception:  # a damaged one ends in many ways
        return ""
    if not any(info.header_offset == 0 for info in held):  # a zip file in a zip file that was cut off
        return ""
    names = {info.filename.rpartition("/")[2] for info in held}
    signs = {
        "archive_format": "program",
        "serialized_exported_program.json": "program",  # up to torch 2.7
        "constants.pkl": "script",
        "data.pkl": "tensors",
    }
    return next((kind for name, kind in signs.items() if name in names), "")


def _load(path: Path) -> torch.export.ExportedProgram:
    """``torch.export.load``; the cause of an error, which that logs with a traceback, is raised instead."""
    causes: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        causes.extend(error for error in (record.exc_info or ())[1:2] if error)
        return not record.exc_info

    log = logging.getLogger("torch.export")
    log.addFilter(keep)
    try:
        with path.open("rb") as file:  # a path must end in .pt2
            return torch.export.load(file)
    except Exception as error:
        raise (causes or [error])[0] from None
    finally:
        log.removeFilter(keep)


OTHERS = {
    "tensors": (
        "it holds tensors, as torch.save writes them\nFor weights name the network that they are of, as in "
        "teacher=resnet18 teacher.checkpoint=..., or export that network: kd/models/exported.py says how."
    ),
    "script": (
        "it is a TorchScript archive\nExport the network that it was made of: kd/models/exported.py says how, or save "
        "its state_dict() and name the network, as in teacher=resnet18 teacher.checkpoint=..."
    ),
    "": "it is no such zip file",
}
OPEN = (
    "Export it for images of data.image_size, with the batch left open: "
    'dynamic_shapes=({0: torch.export.Dim("batch")},)'
)
