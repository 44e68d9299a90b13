"""A network at its own image size: it gets the images of the data, resampled to the side that it was made for."""

from __future__ import annotations

from torch import Tensor, nn

from kd.runtime.resampling import resize_antialiased


class Resize(nn.Module):
    """Resample images to ``size`` x ``size`` pixels: bilinear, and antialiased where it shrinks them.

    It has no state, so a network has the same names in a checkpoint with it and without.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 3, size, size]."""
        return resize_antialiased(image, self.size, self.size)
