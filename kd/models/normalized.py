"""A network with its own normalisation, so that teacher and student can take the same image in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import extract_outputs
from kd.models.tokens import choose_maps
from kd.runtime.errors import first_line


def check_forward(network: nn.Module, role: str, image_size: int, advice: Callable[[], str] = lambda: "") -> nn.Module:
    """Run one image through ``network``, in eval mode, and return the network.

    Args:
        role: of the network, for the error. advice: returns a second line for the error.

    Raises:
        ValueError: the network cannot take images of this size; names its role and the cause.
    """
    network.eval()
    try:
        with torch.no_grad():
            extract_outputs(network, torch.zeros(1, 3, image_size, image_size))
    except FileNotFoundError:  # an exported program without its file
        raise
    except Exception as error:
        raise ValueError(
            f"the {role} cannot take images of {image_size} x {image_size} pixels: {first_line(error)}\n{advice()}"
        ) from error
    return network


def check_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Check that pixels in [0, 1] can have this mean and std; mean 0 and std 1 mean no normalisation.

    Raises:
        ValueError: not three finite numbers each, a ``std`` that is not above 0, or a number outside [0, 1].
    """
    numbers = [value for values in (mean, std) if isinstance(values, Sequence) for value in values]
    plain = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
    if not plain or [len(values) for values in (mean, std) if isinstance(values, Sequence)] != [3, 3] or min(std) <= 0:
        raise ValueError(f"mean and std must be three numbers each, std above 0; got {mean} and {std}")
    if min(mean) < 0 or max(numbers) > 1:
        raise ValueError(
            f"mean and std must lie in [0, 1], as pixels do here, got {mean} and {std}: divide those of pixels in "
            "[0, 255] by 255"
        )


class Normalized(nn.Module):
    """``network((image - mean) / std)``.

    So an exported network contains its normalisation, and no batch is normalised for the wrong network.

    Args:
        mean, std: one number a channel, of images in [0, 1]. A network with an ``input_statistics`` attribute
            (pretrained weights) keeps its own instead.
        resize: changes the images first. reclass: changes the logits last. Neither has a state: see
            ``kd/models/resized.py`` and ``kd/models/reclassed.py``.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        resize: nn.Module | None = None,
        reclass: nn.Module | None = None,
    ):
        super().__init__()
        self.network, self.resize, self.reclass = network, resize, reclass
        self.normalize_by(*(getattr(network, "input_statistics", None) or (mean, std)))

    def normalize_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace the statistics.

        Raises:
            ValueError: see ``check_statistics``.
        """
        check_statistics(mean, std)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))

    def prepare(self, image: Tensor) -> Tensor:
        """Return the images as the inner network reads them."""
        return ((image if self.resize is None else self.resize(image)) - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        return self._answer(self.network(self.prepare(image)))

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (what the head reads, the maps of ``choose_maps``)."""
        last, maps = self.network.forward_intermediates(self.prepare(image))
        return last, choose_maps(maps)

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor | tuple[Tensor, ...]:
        read = self.network.forward_head(last, pre_logits=pre_logits)
        return read if pre_logits else self._answer(read)

    def _answer(self, logits: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if self.reclass is None:
            return logits
        return tuple(map(self.reclass, logits)) if isinstance(logits, tuple) else self.reclass(logits)
