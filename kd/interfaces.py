"""The types that every other file uses: a batch, the outputs of a model, a teacher, and the context of a method.

Read this file first. A model is any ``nn.Module`` with timm's methods ``forward_intermediates`` and ``forward_head``:
nearly every timm network has them, and your own network needs about ten lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """One mini-batch. Each view of an image is a pure function of ``(seed, epoch, index, view)``.

    For a method with ``views = V`` the batch holds V views of each of its images, one row for each view: first the
    first views of all images, then their second views, in the same order. So ``logits.chunk(batch.views)`` pairs them.
    All views are made by ``augment``, but the second one by ``second_augment`` if the method has
    ``second_augment = True``. A term sees as many views as it names; see ``Objective.forward``.
    With a ``sampler`` the later blocks hold what ``kd.data.samplers`` puts beside the images, in place of views.
    """

    image: Tensor  # [B, 3, H, W], float in [0, 1]: every network contains its own normalisation
    target: Tensor  # [B], int64; -1 for an image without a label, see ``labelled``
    index: Tensor  # [B], int64: position in the data set; on the device of the images
    epoch: int = 0  # with the index it identifies the view, and the row of a logit cache
    progress: float = 1.0  # share of the training that is done, for schedules
    mixup_target: Tensor | None = None  # [B], int64: target of the image that was mixed in (mixup, CutMix)
    mixup_lam: Tensor | None = None  # [B], in [0, 1]: share of the own image in such a mixture
    class_weight: Tensor | None = None  # [K]: weight of the labels of each class; None: all equal
    views: int = 1  # of each image: the batch has B / views different images
    labelled: float | None = None  # share of the images of an epoch that have labels; None: all have
    label_blocks: int | None = None  # with a sampler: how many blocks, the first ones, learn their labels
    first_row: int = 0  # with a sampler: place of the first row among the images of the whole step

    @property
    def learners(self) -> Batch:
        """The rows that learn their labels: with a sampler those of ``label_blocks``, as of one view; else all."""
        if self.label_blocks is None:
            return self
        return self.first_views(self.label_blocks)._replace(views=1, label_blocks=None)

    def repeat_labels(self, views: int) -> Batch:
        """Return a batch whose ``image`` holds ``views`` views of each image with one label for each row."""
        if views == 1:
            return self
        rows = {name: value.repeat(views) for name in ROWS[1:] if (value := getattr(self, name)) is not None}
        return self._replace(**rows, views=views)

    def first_views(self, views: int) -> Batch:
        """Return the rows of the first ``views`` views of each image."""
        count = len(self.index) * views // self.views
        rows = {name: value[:count] for name in ROWS if (value := getattr(self, name)) is not None}
        return self._replace(**rows, views=views)


ROWS = ("image", "target", "index", "mixup_target", "mixup_lam")  # the fields of a batch that have its rows


class Outputs(NamedTuple):
    """The outputs of a model for a batch. A cached teacher has only logits: the rest is None or empty."""

    logits: Tensor  # [B, K]
    embedding: Tensor | None = None  # [B, D], the input of the classifier
    features: tuple[Tensor, ...] = ()  # ([B, C_i, H_i, W_i], ...), shallow to deep
    class_maps: Tensor | None = None  # [B, K, H, W]: the classifier's logits at each position of the last map
    heads: tuple[Tensor, ...] = ()  # ([B, K], [B, K]): of the class head and of the distillation head, where a method
    # trains them apart (DeiT); then ``logits`` is their mean

    @property
    def label_logits(self) -> Tensor:
        """The logits that learn the labels, [B, K]: those of the class head where there are two."""
        return self.heads[0] if self.heads else self.logits

    def first_rows(self, count: int) -> Outputs:
        """Return the outputs for the first ``count`` rows of the batch."""

        def first(value: Tensor | tuple[Tensor, ...] | None) -> Tensor | tuple[Tensor, ...] | None:
            return tuple(map(first, value)) if isinstance(value, tuple) else None if value is None else value[:count]

        return Outputs(*map(first, self))

    def to_float32(self, needs: Set[str]) -> Outputs:
        """Return the outputs in float32 (or better), because losses are never computed in mixed precision.

        Args:
            needs: the outputs to keep besides the logits, of {"embedding", "features", "class_maps"}.
        """
        return Outputs(
            logits=_to_float32(self.logits),
            embedding=_to_float32(self.embedding) if "embedding" in needs else None,
            features=tuple(map(_to_float32, self.features)) if "features" in needs else (),
            class_maps=_to_float32(self.class_maps) if "class_maps" in needs else None,
            heads=tuple(map(_to_float32, self.heads)),
        )


DEFAULT_NEEDS = frozenset({"embedding", "features"})
LOGITS_ONLY = frozenset({"logits"})  # the outputs of a logit cache or a black box


def _to_float32(x: Tensor | None) -> Tensor | None:
    return x.float() if x is not None and x.dtype in (torch.bfloat16, torch.float16) else x


class Teacher(Protocol):
    """Anything that returns outputs without gradients for a batch."""

    def __call__(self, batch: Batch) -> Outputs: ...


def no_pass(network: nn.Module, needs: Set[str]) -> Iterator[tuple[Outputs, Batch]]:
    """Stand in for ``Context.over_train`` where there is no data set, as when a described network is built."""
    raise ValueError("its method reads the training images before it trains, and there is no data set here")


class Context(NamedTuple):
    """Networks and data set of a training, for the few methods that need more than outputs: see ``Objective.bind``."""

    student: nn.Module  # to be trained
    teacher: nn.Module | None  # trained, in eval mode; None without a teacher
    make_student: Callable[[int], nn.Module]  # returns an untrained copy of the student; the number, from 1, seeds it
    forward: Callable[[nn.Module, Tensor, Set[str]], Outputs]  # ``extract_outputs`` in training precision, then float32
    targets: Tensor  # [N], int64: of every image of the data set; ``Batch.index`` points into it
    train: Tensor  # [n], int64: the positions of the training images
    image_size: int  # pixels: images are [B, 3, image_size, image_size]
    over_train: Callable[[nn.Module, Set[str]], Iterator[tuple[Outputs, Batch]]] = no_pass  # the float32 outputs of a
    # network on the labelled training images, without augmentation, in one order and on every process the same, in
    # batches; call it in ``setup``, which runs only where there is something to train
    batch_size: int = 0  # images of a training step, on all processes and in all micro-batches


def extract_outputs(model: nn.Module, image: Tensor, needs: Set[str] = DEFAULT_NEEDS) -> Outputs:
    """Run ``model`` once and return the outputs that KD methods read. ``.logits`` equals ``model(image)``.

    Args:
        model: a network with timm's ``forward_intermediates`` and ``forward_head``.
        image: [B, 3, H, W] in [0, 1].
        needs: the outputs to return besides the logits. Embedding and class maps are computed only if named here: each
            runs the head once more, which would change the statistics of a batch norm in the head.
    """
    last, features = model.forward_intermediates(image)
    embedding = mean_of_heads(model.forward_head(last, pre_logits=True)) if "embedding" in needs else None
    class_maps = class_activation(model, last) if "class_maps" in needs and is_map(last, features) else None
    logits = model.forward_head(last)
    heads = logits if isinstance(logits, tuple) else ()
    return Outputs(mean_of_heads(logits), embedding, tuple(features), class_maps, heads)


def mean_of_heads(x: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the mean over the two heads that timm's distilled networks return apart in training, or ``x`` itself."""
    return (x[0] + x[1]) / 2 if isinstance(x, tuple) else x


def is_map(last: object, features: Sequence[Tensor]) -> bool:
    """Whether what a head reads is a map [B, C, H, W]: not tokens [B, N, C], a map [B, H, W, C], or a list."""
    if not isinstance(last, Tensor) or last.ndim != 4:
        return False
    if not features or last.shape == features[-1].shape:
        return True
    return last.shape != features[-1].permute(0, 2, 3, 1).shape


def class_activation(model: nn.Module, last: Tensor) -> Tensor:
    """Return the classifier's logits at each position of the last map: [B, C, H, W] -> [B, K, H, W].

    For global average pooling and a linear classifier these are the class activation maps of Zhou et al. 2016
    (https://arxiv.org/abs/1512.04150), and their mean over positions is the logits.
    """
    count, channels, height, width = last.shape
    positions = last.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    return mean_of_heads(model.forward_head(positions)).view(count, height, width, -1).permute(0, 3, 1, 2)
