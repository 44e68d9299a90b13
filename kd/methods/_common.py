"""Helpers that methods share: pairing and resizing the maps of student and teacher, and checks of their inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs, mean_of_heads
from kd.runtime.resampling import average_pool
from kd.runtime.user_warnings import warn_user

Pair = tuple[Tensor, Tensor]


def paired_maps(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None = None) -> list[Pair]:
    """Pair the maps of two networks, counted from the deep end: [(student [B, C, H, W], teacher [B, D, I, J]), ...].

    Networks differ in their number of maps and agree best at the deep end, so -1 is the last map of both.

    Args:
        stages: negative positions, e.g. (-2, -1); None pairs as many as both networks have.

    Returns:
        The pairs, shallow to deep whatever the order of ``stages``.

    Raises:
        ValueError: a teacher without maps, or a stage that one of the two networks does not have.
    """
    if teacher is None or not teacher.features:
        raise ValueError(
            "this method reads the maps of the teacher, and the teacher shows none: cached logits, an ensemble and an "
            "exported program have no maps. Choose a single teacher, teacher.source=auto, or a logit method"
        )
    if isinstance(stages, int):
        raise ValueError(f"kd.stages is a list, counted from the deep end: kd.stages=[{stages}]")
    most = min(len(student.features), len(teacher.features))
    chosen = range(-most, 0) if stages is None else stages
    wrong = [stage for stage in chosen if not -most <= stage <= -1]
    if wrong or not chosen:
        raise ValueError(
            f"kd.stages={list(chosen)}: stages count from the deep end, -1 is the last; the student has "
            f"{len(student.features)} maps and the teacher {len(teacher.features)}, so -{most} to -1 can be paired"
        )
    return [(student.features[stage], teacher.features[stage]) for stage in sorted(chosen)]


def same_size(student: Tensor, teacher: Tensor) -> Pair:
    """Average-pool the larger of two maps to the height and width of the smaller, as RepDistiller does."""
    height, width = (min(sides) for sides in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    return pool_to(student, height, width), pool_to(teacher, height, width)


def paired_wide_maps(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None) -> list[Pair]:
    """Return the pairs at one size, without those of a single place, which have no spatial pattern to compare."""
    sized = [same_size(*pair) for pair in paired_maps(student, teacher, stages)]
    return [(ours, theirs) for ours, theirs in sized if ours.shape[-2:] != (1, 1)]


def check_wide(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None, method: str) -> None:
    """Warn if ``paired_wide_maps`` leaves some pairs out.

    Raises:
        ValueError: it leaves all pairs out.
    """
    every, wide = len(paired_maps(student, teacher, stages)), len(paired_wide_maps(student, teacher, stages))
    if not wide:
        raise ValueError(
            f"{method} compares where in its maps a network is active, and in every pair of maps of student and "
            "teacher one is a single place: use shallower kd.stages, or a larger data.image_size"
        )
    if wide < every:
        warn_user(f"{method} leaves {every - wide} of {every} pairs of maps out: each has a map of a single place")


def warn_single_map(teacher: Tensor, method: str, consequence: str) -> None:
    """Warn if the teacher's map is a single place, as the last map of a ResNet is at 32 pixels.

    Args:
        consequence: what the method loses by it; completes the sentence.
    """
    if teacher.shape[-2:] == (1, 1):
        warn_user(
            f"{method}: the teacher's last map is a single place, so {consequence}. A larger data.image_size, "
            "a stem that shrinks less (for a network of timm, teacher.stem=small) or another method works better"
        )


def pool_to(x: Tensor, height: int, width: int) -> Tensor:
    """Average-pool [B, C, H, W] to [B, C, height, width]; return a map of that size unchanged."""
    return x if x.shape[-2:] == (height, width) else average_pool(x, height, width)


def conv_norm(inside: int, outside: int, kernel: int = 1) -> nn.Sequential:
    """Return a convolution (kernel x kernel, same size, no bias) and batch norm, from ``inside`` to ``outside``."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    )


def check_batch(count: int, method: str) -> None:
    """Raise ValueError for a batch of one image; for methods that compare the images of a batch with each other."""
    if count < 2:
        raise ValueError(
            f"{method} compares the images of a batch with each other, and this batch has {count}: use a larger "
            "train.batch_size or fewer processes"
        )


def two_blocks(rows: Tensor, batch: Batch, method: str) -> Pair:
    """Return the two blocks of rows that a sampler made: [2 B, ...] -> [B, ...] of the batch's own images, and beside.

    Raises:
        RuntimeError: the batch has no such blocks.
    """
    if batch.views != 2:
        raise RuntimeError(f"{method} asks for a sampler of two blocks, and this batch has {batch.views}")
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def check_embedding(teacher: Outputs | None, method: str) -> None:
    """Raise ValueError if the teacher has no embedding."""
    if teacher is None or teacher.embedding is None:
        raise ValueError(
            f"{method} compares embeddings, and the teacher shows none: cached logits and an ensemble have no "
            "embedding. Choose a single teacher, teacher.source=auto, or a logit method"
        )


@torch.no_grad()
def classifier_rows(teacher: nn.Module, image_size: int, method: str) -> Tensor:
    """Return the weights of the teacher's classifier, one row for each of its logits, [K, D]; D as its embedding.

    Raises:
        ValueError: the logits are not one linear layer of the embedding.
    """
    image = torch.linspace(0, 1, 3 * image_size**2, device=next(teacher.parameters()).device)
    last, _ = teacher.forward_intermediates(image.view(1, 3, image_size, image_size))
    called: list[nn.Linear] = []
    linear = [module for module in teacher.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_hook(lambda module, *_: called.append(module)) for module in linear]
    logits = mean_of_heads(teacher.forward_head(last))
    for hook in hooks:
        hook.remove()
    embedding, pick = mean_of_heads(teacher.forward_head(last, pre_logits=True)), getattr(teacher, "reclass", None)
    if called and isinstance(embedding, Tensor) and embedding.shape[1:] == called[-1].weight.shape[1:]:
        answer = F.linear(embedding, called[-1].weight, called[-1].bias)
        answer = answer if pick is None else pick(answer)
        if answer.shape == logits.shape and torch.allclose(answer, logits, 1e-2, 1e-2 * float(logits.abs().max())):
            rows = called[-1].weight.detach()
            return rows.clone() if pick is None else pick(rows.T).T.contiguous()
    raise ValueError(
        f"{method} reads the weights of the teacher's classifier, and the logits of this teacher are not one linear "
        "layer of its embedding: an ensemble and an exported program show none, and DeiT has two. Choose a single "
        "teacher with such a classifier, or another method"
    )


def two_views(student: Outputs, teacher: Outputs, batch: Batch, method: str) -> tuple[Pair, Pair]:
    """Return the logits of student and teacher on the first view of each image, [B, K] each, and on the second.

    Raises:
        ValueError: the batch has one view of each image.
    """
    if batch.views < 2:
        raise ValueError(f"{method} compares two views of each image, and this batch has one: see Batch.views")
    first, second = zip(*(x.logits.chunk(batch.views)[:2] for x in (student, teacher)), strict=True)
    return first, second
