"""A ``torch.export`` program as a black box: a teacher of any architecture, with logits alone.

Export a network in eval mode, with a dynamic batch size::

    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=batch)
    torch.export.save(program, "model.pt2")

A program is code: torch's loader unpickles its contents, evaluates its symbolic shapes and may load libraries. So it is
loaded only with ``teacher.trusted=true``.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from kd.models.logits_only import LogitsOnly
from kd.runtime.errors import first_line

LARGEST_BATCH = 1024  # images: larger than any batch of a run


class Exported(LogitsOnly):
    """A network that runs an exported program; empty until ``read`` loads one.

    Args:
        num_classes: K, the number of logits of the program. image_size: side of the square input in pixels.
        trusted: whether to load the program, which may run any code.
    """

    def __init__(self, num_classes: int, image_size: int, trusted: bool = False):
        super().__init__()
        self.num_classes, self.image_size, self.trusted = num_classes, image_size, trusted
        self.program: nn.Module | None = None

    def read(self, path: Path, counted: str = "the data has") -> None:
        """Load the program of a .pt2 file.

        Args:
            counted: who says how many classes there are, for an error.

        Raises:
            ValueError: not trusted, not a program, a program for other images or classes or a limited batch, one whose
                logits are not finite, or one exported in train mode.
        """
        kind = kind_of(path)
        if kind != "program":
            raise ValueError(f"{path} is not a program of torch.export.save: {OTHERS[kind]}")
        if not self.trusted:
            raise ValueError(
                f"{path} is a program, and loading one may run any code. If you trust its author as you would with "
                "Python code, set teacher.trusted=true"
            )
        try:
            program = _load(path)
            self.program = program.module()
        except Exception as error:
            raise ValueError(f"{path} is not a program of torch.export.save: {first_line(error)}") from error
        most = min(
            (int(span.upper) for span in program.range_constraints.values() if span.upper < LARGEST_BATCH), default=None
        )
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
            actual = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"{path} returns {actual} for 3 images; {counted} {self.num_classes} classes, so it must return "
                f"logits [3, {self.num_classes}]\nteacher.classes=FILE names the classes of a program that has others."
            )
        if not logits.isfinite().all():
            raise ValueError(
                f"{path} returns logits that are NaN or infinite: its weights are not finite, or they overflow"
            )
        if not torch.equal(logits, again) or not torch.allclose(logits[:1], alone, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{path} returns different logits for the same image alone, in a batch or twice: it was exported in "
                "train mode. Export network.eval()."
            )

    def train(self, mode: bool = True) -> Exported:
        """Set the flag ``training``; the program keeps the mode of its export."""
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any, **more: Any) -> Exported:
        """Move constants and graph with the weights: a graph names the device of its export."""
        super()._apply(fn, *rest, **more)
        device = fn(torch.empty(0)).device
        for module in self.program.modules() if self.program is not None else ():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor):  # a constant: neither parameter nor buffer
                    setattr(module, name, fn(value))
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    node.args, node.kwargs = tree_map_only(torch.device, lambda _: device, (node.args, node.kwargs))
                module.recompile()
        return self

    def forward(self, image: Tensor) -> Tensor:
        if self.program is None:
            raise FileNotFoundError("a program needs its file: {teacher: exported, checkpoint: model.pt2}")
        return self.program(image)


def kind_of(path: Path) -> str:
    """Return the kind of a file by the names in it; its contents are not read.

    Returns:
        "program" of torch.export, "script" of torch.jit, "tensors" of torch.save, or "" for any other file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # a damaged file raises many kinds
        return ""
    if not any(info.header_offset == 0 for info in entries):  # a zip file inside a truncated zip file
        return ""
    names = {info.filename.rpartition("/")[2] for info in entries}
    signs = {
        "archive_format": "program",
        "serialized_exported_program.json": "program",  # up to torch 2.7
        "constants.pkl": "script",
        "data.pkl": "tensors",
    }
    return next((kind for name, kind in signs.items() if name in names), "")


def _load(path: Path) -> torch.export.ExportedProgram:
    """Call ``torch.export.load``, and raise the cause of an error, which torch only logs with a traceback."""
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
        "it holds tensors, as torch.save writes them\nFor weights name their network, as in teacher=resnet18 "
        "teacher.checkpoint=..., or export that network: kd/models/exported.py explains how."
    ),
    "script": (
        "it is a TorchScript archive\nExport the original network: kd/models/exported.py explains how, or save its "
        "state_dict() and name the network, as in teacher=resnet18 teacher.checkpoint=..."
    ),
    "": "it is not a zip file of torch",
}
OPEN = (
    "Export it for images of data.image_size (or set teacher.image_size to its own), with a dynamic batch size: "
    'dynamic_shapes=({0: torch.export.Dim("batch")},)'
)
