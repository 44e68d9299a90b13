"""The three things every other file agrees on: a batch, what a model shows of it, and a teacher.

Read this page first. A model is any ``nn.Module`` with timm's two tap methods, ``forward_intermediates`` and
``forward_head``; every convolutional timm network has them, and a network of your own needs about ten lines.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch: the view of each image that belongs to ``(seed, epoch, index)``, and nothing else."""

    image: Tensor  # [B, 3, H, W], float in [0, 1]: every network carries its own normalisation
    target: Tensor  # [B], int64
    index: Tensor  # [B], int64: position in the data set
    epoch: int = 0  # with index, it names the view: a teacher's bank is addressed by both


class Outputs(NamedTuple):
    """What a model shows of a batch. A banked teacher shows logits alone: ``embedding`` is None, ``features`` empty."""

    logits: Tensor  # [B, K]
    embedding: Tensor | None = None  # [B, D], the input of the classifier
    features: tuple[Tensor, ...] = ()  # ([B, C_i, H_i, W_i], ...), shallow to deep

    def full(self, features: bool) -> Outputs:
        """The same in float32 (or better): losses are never computed in mixed precision.

        Args:
            features: False leaves the maps out, where no term reads them.
        """
        embedding = None if self.embedding is None else _full(self.embedding)
        return Outputs(_full(self.logits), embedding, tuple(map(_full, self.features)) if features else ())


def _full(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Teacher(Protocol):
    """Anything that answers a batch with outputs that carry no gradient."""

    def __call__(self, batch: Batch) -> Outputs: ...


def observe(model: torch.nn.Module, image: Tensor, embedding: bool = True) -> Outputs:
    """Run ``model`` once and show everything a KD method may ask for. ``.logits`` equals ``model(image)``.

    Args:
        model: a network with timm's ``forward_intermediates`` and ``forward_head``.
        image: [B, 3, H, W] in [0, 1].
        embedding: False leaves it out: the head runs a second time for it, which a batch norm in a head would notice.
    """
    last, features = model.forward_intermediates(image)
    embedded = model.forward_head(last, pre_logits=True) if embedding else None
    return Outputs(model.forward_head(last), embedded, tuple(features))
