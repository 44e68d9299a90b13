"""The three things every other file agrees on: a batch, what a model shows of it, and a teacher.

Read this page first. A model is any ``nn.Module`` with timm's two tap methods, ``forward_intermediates`` and
``forward_head``; every convolutional timm network has them, and a network of your own needs about ten lines.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """One mini-batch: the view of each image that belongs to ``(seed, epoch, index)``, and nothing else."""

    image: Tensor  # [B, 3, H, W], float in [0, 1]: every network carries its own normalisation
    target: Tensor  # [B], int64
    index: Tensor  # [B], int64: position in the data set
    epoch: int = 0  # with index, it names the view: a teacher's logit cache is addressed by both
    progress: float = 1.0  # share of the training that is behind: for schedules, so that no loss counts epochs
    mixup_target: Tensor | None = (
        None  # [B], int64: target of the image that was mixed in (mixup); None where nothing is
    )
    mixup_lam: Tensor | None = None  # [B], in [0.5, 1]: of the own image in such a mixture
    class_weight: Tensor | None = None  # [K]: what the label of each class counts; None where all count alike


class Outputs(NamedTuple):
    """What a model shows of a batch. A cached teacher shows logits alone: the others are None, ``features`` empty."""

    logits: Tensor  # [B, K]
    embedding: Tensor | None = None  # [B, D], the input of the classifier
    features: tuple[Tensor, ...] = ()  # ([B, C_i, H_i, W_i], ...), shallow to deep
    class_maps: Tensor | None = None  # [B, K, H, W]: what the classifier says of each place of the last map

    def to_float32(self, show: Set[str]) -> Outputs:
        """The same in float32 (or better): losses are never computed in mixed precision.

        Args:
            show: what is kept beside the logits, of {"embedding", "features", "class_maps"}.
        """
        return Outputs(
            logits=_to_float32(self.logits),
            embedding=_to_float32(self.embedding) if "embedding" in show else None,
            features=tuple(map(_to_float32, self.features)) if "features" in show else (),
            class_maps=_to_float32(self.class_maps) if "class_maps" in show else None,
        )


DEFAULT_NEEDS = frozenset({"embedding", "features"})
LOGITS_ONLY = frozenset({"logits"})  # what a logit cache of answers, an ensemble or a black box can show


def _to_float32(x: Tensor | None) -> Tensor | None:
    return x.float() if x is not None and x.dtype in (torch.bfloat16, torch.float16) else x


class Teacher(Protocol):
    """Anything that answers a batch with outputs that carry no gradient."""

    def __call__(self, batch: Batch) -> Outputs: ...


class Context(NamedTuple):
    """What surrounds a training, for the few methods that outputs are not enough for: see ``Objective.enter``."""

    student: nn.Module  # what will be trained
    teacher: nn.Module | None  # trained, in eval mode; None where labels alone teach
    make_student: Callable[
        [int], nn.Module
    ]  # another network like the student, not trained; the number, from 1, seeds it
    forward: Callable[[nn.Module, Tensor, Set[str]], Outputs]  # ``observe`` in the precision of training, then ``full``
    targets: Tensor  # [N], int64: of every image of the data set; ``Batch.index`` points into it
    train: Tensor  # [n], int64: the positions that training draws from
    image_size: int  # pixels: images are [B, 3, image_size, image_size]


def extract_outputs(model: nn.Module, image: Tensor, show: Set[str] = DEFAULT_NEEDS) -> Outputs:
    """Run ``model`` once and show what KD methods ask for. ``.logits`` equals ``model(image)``.

    Args:
        model: a network with timm's ``forward_intermediates`` and ``forward_head``.
        image: [B, 3, H, W] in [0, 1].
        show: the embedding and the class maps run the head once more each, which a batch norm in a head would notice:
            they are left out where their name does not stand here.
    """
    last, features = model.forward_intermediates(image)
    embedding = model.forward_head(last, pre_logits=True) if "embedding" in show else None
    class_maps = class_activation(model, last) if "class_maps" in show and last.ndim == 4 else None
    return Outputs(model.forward_head(last), embedding, tuple(features), class_maps)


def class_activation(model: nn.Module, last: Tensor) -> Tensor:
    """The classifier's word on each place of the last map: [B, C, H, W] -> [B, K, H, W].

    Behind a global average pool and a linear classifier these are the class activation maps of Zhou et al. 2016
    (https://arxiv.org/abs/1512.04150), and their mean over places are the logits.
    """
    count, channels, height, width = last.shape
    places = last.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    return model.forward_head(places).view(count, height, width, -1).permute(0, 3, 1, 2)
