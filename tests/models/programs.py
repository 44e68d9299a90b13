"""Small networks whose exported programs hold constants or name a device: what a program must survive to be moved."""

from __future__ import annotations

import torch
from torch import nn

CLASSES, SIZE = 6, 16


class Head(nn.Module):
    """A pool and a linear layer, after something that a program keeps in its own way."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, CLASSES)
        self.mean = torch.tensor([0.5, 0.4, 0.3]).view(-1, 1, 1)  # neither parameter nor buffer

    def change(self, image):
        return image

    def forward(self, image):
        return self.linear(self.change(image).mean((2, 3)))


class Constant(Head):
    def change(self, image):
        return image - self.mean


class Lifted(Head):
    def change(self, image):
        return image * torch.tensor([1.0, 2.0, 3.0]).view(-1, 1, 1)


class Index(Head):
    def change(self, image):
        return image.index_select(1, torch.tensor([2, 1, 0]))


class Positional(Head):
    def change(self, image):
        return image.to("cpu") * 2


class Made(Head):
    def change(self, image):
        return image + torch.linspace(0, 1, SIZE, device="cpu") + torch.zeros(image.shape[0], 1, 1, 1)


class Nested(Head):
    def change(self, image):
        with torch.no_grad():
            return image - self.mean + torch.arange(SIZE, dtype=torch.float32)


class Weightless(nn.Module):
    def forward(self, image):
        return image.mean((2, 3)).repeat(1, 2) * torch.arange(CLASSES)


PROGRAMS = (Constant, Lifted, Index, Positional, Made, Nested, Weightless)
