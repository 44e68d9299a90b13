"""What the methods that read maps share: which map of the one network goes with which of the other, and their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Outputs
from kd.runtime.user_warnings import warn_user

Pair = tuple[Tensor, Tensor]


def paired_maps(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None = None) -> list[Pair]:
    """Pair the maps of two networks, counted from the deep end: [(student [B, C, H, W], teacher [B, D, I, J]), ...].

    Networks differ in how many maps they show and agree best in what the last ones mean, so -1 is the last of both.

    Args:
        stages: negative positions, e.g. (-2, -1); None pairs as many as both have. Shallow to deep, either way.

    Raises:
        ValueError: a teacher that shows no maps, or a stage that one of the two does not have.
    """
    if teacher is None or not teacher.features:
        raise ValueError(
            "this method reads the maps of the teacher, and the teacher shows none: a logit cache, an ensemble and a teacher "
            "that is only asked for logits have none. Choose a single teacher, teacher.source=auto, or a logit method"
        )
    if isinstance(stages, int):
        raise ValueError(f"kd.stages is a list, counted from the deep end: kd.stages=[{stages}]")
    most = min(len(student.features), len(teacher.features))
    chosen = range(-most, 0) if stages is None else stages
    wrong = [stage for stage in chosen if not -most <= stage <= -1]
    if wrong or not chosen:
        raise ValueError(
            f"kd.stages={list(chosen)}: stages count from the deep end, -1 is the last; the student shows "
            f"{len(student.features)} maps and the teacher {len(teacher.features)}, so -{most} to -1 can be paired"
        )
    return [(student.features[stage], teacher.features[stage]) for stage in sorted(chosen)]


def same_size(student: Tensor, teacher: Tensor) -> Pair:
    """Average-pool the larger of two maps to the height and width of the smaller, as RepDistiller does."""
    height, width = (min(sides) for sides in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    return pool_to(student, height, width), pool_to(teacher, height, width)


def paired_wide_maps(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None) -> list[Pair]:
    """``pairs`` at one size, without those of a single place: they have no spatial pattern to compare."""
    sized = [same_size(*pair) for pair in paired_maps(student, teacher, stages)]
    return [(ours, theirs) for ours, theirs in sized if ours.shape[-2:] != (1, 1)]


def check_wide(student: Outputs, teacher: Outputs | None, stages: Sequence[int] | None, method: str) -> None:
    """Warn if some pairs of maps are left out, and refuse if all are.

    Raises:
        ValueError: with what would be right.
    """
    every, wide = len(paired_maps(student, teacher, stages)), len(paired_wide_maps(student, teacher, stages))
    if not wide:
        raise ValueError(
            f"{method} compares where in its maps a network is active, and all maps of student and teacher that go "
            "together are a single place: take shallower kd.stages, or a larger data.image_size"
        )
    if wide < every:
        warn_user(f"{method} leaves {every - wide} of {every} pairs of maps out: a single place each")


def warn_single_map(teacher: Tensor, method: str, consequence: str) -> None:
    """Say what is lost where the teacher's map is a single place, as a ResNet's last one is at 32 pixels."""
    if teacher.shape[-2:] == (1, 1):
        warn_user(
            f"{method}: the teacher's last map is a single place, so {consequence}. A larger data.image_size, "
            "a stem that shrinks less (of timm's networks, teacher.stem=small) or another method serves better"
        )


def pool_to(x: Tensor, height: int, width: int) -> Tensor:
    """Average-pool [B, C, H, W] to [B, C, height, width]; as it is where it has that size."""
    return x if x.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(x, (height, width))


def conv_norm(inside: int, outside: int, kernel: int = 1) -> nn.Sequential:
    """Convolution (kernel x kernel, same size, no bias) and batch norm: [B, inside, H, W] -> [B, outside, H, W]."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    )


def check_batch(count: int, method: str) -> None:
    """Refuse a batch of one where the images of a batch are compared with each other.

    Raises:
        ValueError: with what would be right.
    """
    if count < 2:
        raise ValueError(
            f"{method} compares the images of a batch with each other, and this batch has {count}: take a larger "
            "train.batch_size, or fewer processes"
        )


def check_embedding(teacher: Outputs | None, method: str) -> None:
    """Refuse a teacher that shows no embedding.

    Raises:
        ValueError: with what would be right.
    """
    if teacher is None or teacher.embedding is None:
        raise ValueError(
            f"{method} compares embeddings, and the teacher shows none: a logit cache and an ensemble have logits alone. "
            "Choose a single teacher, teacher.source=auto, or a logit method"
        )
