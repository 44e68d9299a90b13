"""Knowledge distillation, configured with Hydra: ``python -m kd.run --help``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kd.inference.model import Model

__version__ = "0.1.0"


def load(run: str | os.PathLike, which: str = "student", trusted: bool = False) -> Model:
    """Return a trained network of a run, ready for images: see ``kd.inference.load.load``."""
    from kd.inference.load import load as load_network  # imports torch

    return load_network(run, which, trusted)
