"""A trained network with what a program needs to use it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kd.inference.description import Description
from kd.inference.preprocess import Picture, preprocess


class Model(nn.Module):
    """A trained network in eval mode: [B, 3, H, W] in [0, 1] -> logits [B, K]; it normalises by itself.

    Args:
        network: a ``Normalized`` or an ``Ensemble`` with its weights.
    """

    def __init__(self, network: nn.Module, description: Description):
        super().__init__()
        self.network, self.description = network, description
        self.eval().requires_grad_(False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.description.classes

    @property
    def image_size(self) -> int:
        """Pixels a side of the images that it takes."""
        return self.description.image_size

    def preprocess(self, pictures: Picture | Sequence[Picture]) -> Tensor:
        """Return pictures exactly as the run's test images were shown: float32 [B, 3, image_size, image_size].

        Args:
            pictures: images of Pillow or paths; one, or a list of them.

        Raises:
            ValueError: a file that is no picture. FileNotFoundError: no such file.
        """
        return preprocess(pictures, self.description)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)
