"""Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation (Lv, Yang, Li, NeurIPS 2024),
https://arxiv.org/abs/2412.08139: its WKD-L.

The KL divergence compares probabilities class by class. The Wasserstein distance is the least cost of turning the
student's probabilities into the teacher's, where probability moved between classes that resemble each other costs
little. The loss has two parts: the log-probability of the target at T = 1, weighted with the teacher's, and the
transport of the other K - 1 classes at T, by Sinkhorn's algorithm with its gradient.

How much two classes resemble each other is read from the teacher once, in one of the paper's two ways: the cosine of
their rows in its classifier, or the linear kernel alignment (CKA) of its embeddings of as many training images of
either class. The alignment takes a pass over the training images before the training, and any classifier; the images of
a class are its first ones in the data set. Costs 4 B K^2 multiplications an iteration, with their gradient: for
K = 1000, B = 64 and 10 iterations about 5 billion a step; nothing for ten classes. The alignment costs K n^2 numbers of
8 bytes for n images of each class, once. The target is left out by probabilities of 0, which gives the published
numbers without a cost matrix for each image.

In the published training the weight of the transport, not that of the target's term, falls to 0 along half a cosine
over the last 90 of 240 epochs: ``fall``. For a mixture of two images (mixup) the target is that of the image with the
larger share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_embedding, classifier_rows
from kd.runtime.user_warnings import warn_user

EPS = 1e-8  # the authors', added to costs and divisors


def cosine_distance(rows: Tensor) -> Tensor:
    """Return 1 - the cosines of all pairs of rows, [K, D] -> [K, K]."""
    rows = F.normalize(rows, dim=-1)
    return 1 - rows @ rows.T


def alignment_distance(features: Tensor) -> Tensor:
    """Return 1 - the linear kernel alignment (CKA) of all pairs of classes, [K, n, D] -> [K, K].

    Args:
        features: of n images of each class, paired by their position.
    """
    centred = features - features.mean(1, keepdim=True)
    alike = (centred @ centred.transpose(-1, -2)).flatten(1)  # of the images of a class
    cross = alike @ alike.T  # the squared norms of F_i' F_j
    own = cross.diagonal().sqrt()
    return 1 - cross / (own[:, None] * own)


def class_features(outputs: Iterable[tuple[Outputs, Batch]], classes: int, images: int) -> Tensor:
    """Return the embeddings of the first images of each class, [K, n, D], on the CPU; n: of every class the same.

    Args:
        images: the most images of a class; n is smaller where a class has fewer.
    """
    found: list[list[Tensor]] = [[] for _ in range(classes)]
    for shown, batch in outputs:
        check_embedding(shown, "kd=wkd_logits with kd.images")
        for row, label in zip(shown.embedding.cpu(), batch.target.tolist(), strict=True):
            if len(found[label]) < images:
                found[label].append(row)
    count = min(map(len, found))
    width = shown.embedding.shape[-1]
    return torch.stack([torch.stack(rows[:count]) if count else torch.zeros(0, width) for rows in found])


def cost_of(distance: Tensor, sharpen: float | Tensor) -> Tensor:
    """Return the cost of moving probability between two classes, 1 - exp(-sharpen d), or d for sharpen 0; [K, K]."""
    sharpened = F.relu(1 - torch.exp(-sharpen * distance))
    if isinstance(sharpen, Tensor):
        return torch.where(sharpen == 0, distance, sharpened) + EPS
    return (sharpened if sharpen else distance) + EPS


def transport_cost(
    student_logits: Tensor,
    teacher_logits: Tensor,
    cost: Tensor,
    temperature: float | Tensor,
    entropy: float | Tensor,
    iterations: int,
    left_out: Tensor | None = None,
) -> Tensor:
    """Return the cost of Sinkhorn's transport from the student's softmax at T to the teacher's, a scalar: mean over B.

    Args:
        student_logits, teacher_logits: [B, K]. cost: [K, K].
        entropy: the paper's lambda: the larger, the blurrier the transport. A cost above about 18 times this is as
            good as forbidden, and what only it could move is not counted.
        left_out: [B], int64: a class of each image that takes no part.
    """
    place = torch.arange(cost.shape[-1], device=cost.device)
    out = place < 0 if left_out is None else place == left_out[:, None]  # [K] or [B, K]
    own, given = (
        (logits / temperature).masked_fill(out, -torch.inf).softmax(-1) for logits in (student_logits, teacher_logits)
    )
    kernel = torch.exp(-cost / entropy)
    start = (~out).to(own.dtype)
    u = start / start.sum(-1, keepdim=True)
    for _ in range(iterations):
        v = given / (u @ kernel + EPS)
        u = own / (v @ kernel.transpose(-1, -2) + EPS)
    return ((u @ (kernel * cost)) * v).sum(-1).mean()


def target_term(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Return -mean_b p_t log p_s of the target at T = 1, a scalar."""
    own, given = (
        logits.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1) for logits in (student_logits, teacher_logits)
    )
    return -(given.exp() * own).mean()


class WKDLogits(nn.Module):
    """The target's term, and ``transport`` times the transport of the other classes.

    Args:
        temperature: T of the other classes; the target has 1.
        transport: weight of the transport; the target has weight 1.
        entropy: the paper's lambda. iterations: of Sinkhorn's algorithm.
        sharpen: k of the cost 1 - exp(-k d) of two classes at distance d; 0: d itself.
        images: of each class, whose embeddings say how much classes resemble each other; 0: the classifier's rows do.
        fall: the last share of the training, over which the weight of the transport falls to 0; 0: it stays.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(
        self,
        temperature: float | Tensor = 2.0,
        transport: float | Tensor = 30.0,
        entropy: float | Tensor = 0.05,
        iterations: int = 10,
        sharpen: float | Tensor = 1.0,
        images: int = 0,
        fall: float = 0.0,
    ):
        super().__init__()
        for name, value in (("temperature", temperature), ("entropy", entropy)):
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        for name, value in (("transport", transport), ("sharpen", sharpen)):
            if not isinstance(value, Tensor) and not value >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {value}")
        if iterations < 1:
            raise ValueError(f"kd.iterations must be 1 or more, got {iterations}")
        if images < 0 or images == 1:
            raise ValueError(f"kd.images must be 2 or more, because one image has no spread, or 0; got {images}")
        if not 0 <= fall <= 1:
            raise ValueError(f"kd.fall is a share of the training and must lie in [0, 1], got {fall}")
        self.temperature, self.transport, self.entropy = temperature, transport, entropy
        self.iterations, self.sharpen, self.images, self.fall = iterations, sharpen, images, fall
        self.read = None

    def bind(self, context: Context) -> None:
        """Read the distances of classes from the teacher's classifier; with ``images`` that is left to ``setup``.

        Raises:
            ValueError: the teacher has no linear classifier.
        """
        if self.images:
            teacher, over_train, images = context.teacher, context.over_train, self.images
            self.read = lambda classes: class_features(over_train(teacher, {"embedding"}), classes, images)
            self.counts = torch.bincount(context.targets[context.train].clamp(min=0)).tolist()
            return
        rows = classifier_rows(context.teacher, context.image_size, "kd=wkd_logits").float()
        self.register_buffer("distance", cosine_distance(rows), persistent=False)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """With ``images``, read the distances from the training images.

        Raises:
            ValueError: a class has fewer than two of them, or the teacher has no embedding.
        """
        if self.read is not None:
            classes = student.logits.shape[-1]
            counts = [*self.counts, *[0] * classes][:classes]
            if min(counts) < 2:
                raise ValueError(
                    f"kd.images={self.images} aligns images of each class, and class {counts.index(min(counts))} has "
                    f"{min(counts)} training images: with kd.images=0 the teacher's classifier gives the cost"
                )
            features, self.read = self.read(classes).double(), None
            # where the method is tried a class may have no image
            distance = alignment_distance(features) if features.shape[1] > 1 else 1 - torch.eye(classes)
            self.register_buffer("distance", distance.float())  # in every checkpoint
        if not hasattr(self, "distance"):
            raise RuntimeError("kd=wkd_logits reads the teacher's classifier: call bind before setup")
        if student.logits.shape[-1] == 2:
            warn_user(
                "WKD with two classes: there is one class beside the target, so nothing is transported. kd.transport "
                "and kd.temperature have no effect; the temperature of kd=hinton has"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, given = student.logits, teacher.logits
        cost = cost_of(self.distance.to(own.dtype), self.sharpen)
        moved = transport_cost(own, given, cost, self.temperature, self.entropy, self.iterations, batch.target)
        weight = self.transport
        if self.fall and batch.progress > 1 - self.fall:
            weight = weight * 0.5 * (1 + math.cos(math.pi * (batch.progress - 1 + self.fall) / self.fall))
        return target_term(own, given, batch.target) + weight * moved
