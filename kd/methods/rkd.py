"""Relational Knowledge Distillation (Park, Kim, Lu, Cho, CVPR 2019), https://arxiv.org/abs/1904.05068.

The student learns to keep the teacher's distances between two images and angles between three. The two embeddings may
differ in width: no adapter. Costs B^3 D operations, and for each network B^2 D numbers for the differences and B^3 for
the cosines, several times over during the backward pass. In float32 one tensor of cosines is 1 MB at B = 64, 0.5 GB at
B = 512; measured in all, widths 128 and 512: 0.5 GB at B = 256, 2.3 GB at B = 512, and on one CPU core 17 ms a step at
B = 64, 100 ms at B = 128.

The paper sums over pairs and triplets; the authors' code and all other implementations use means over B^2 and B^3,
including images with themselves, as here. The ratio of the weights is 1 : 2 everywhere: 25 and 50 in the authors'
classification script and most implementations, 1 and 2 in their metric learning and in torchdistill. That script also
scales embeddings to length 1 first (``normalize``, mmrazor's default too) and adds Hinton's term at T = 4; RepDistiller
and mdistiller do neither. Other implementations divide by lengths of 1e-12, which makes the gradient of two images in
the same place noise of any size; here such images have no direction and no gradient.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding

MIN_SQUARED_DISTANCE = 1e-12  # two images at a smaller squared distance are in the same place; the published eps


def relation_losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of distances and of angles, two scalars; h is the smooth L1 (Huber) with its knee at 1.

    Distances: mean over B^2 of h(D_s / mean D_s - D_t / mean D_t), D Euclidean, its mean without the diagonal.
    Angles: mean over B^3 of h(cos_s(j i k) - cos_t(j i k)), at image i between images j and k; where i is one of them,
    or in the same place, the cosine counts as 0.

    Args:
        student, teacher: [B, D] and [B, D'], B > 1.
    """
    own, given = _differences(student), _differences(teacher)
    distances = F.smooth_l1_loss(_relative_distances(own[1]), _relative_distances(given[1]))
    return distances, F.smooth_l1_loss(_cosines(*own), _cosines(*given))


def rows_of_length_one(x: Tensor) -> Tensor:
    """Return [B, D] with rows of Euclidean length 1; rows of zeros stay zeros, without gradient."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.masked_fill(length < 1e-12, math.inf)


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences from i to j, [B, B, D], and their squared lengths, [B, B].

    Not by a Gram matrix, whose terms cancel in float32.
    """
    apart = x.unsqueeze(0) - x.unsqueeze(1)
    return apart, apart.square().sum(-1)


def _relative_distances(squares: Tensor) -> Tensor:
    """Return the square roots, scaled to mean 1 off the diagonal, with 0 on it: [B, B] -> [B, B]."""
    count = len(squares)
    # the root after the clamp: at 0 the slope of the root is infinite, that of the clamp is 0
    distances = squares.clamp_min(MIN_SQUARED_DISTANCE).sqrt() * (
        1 - torch.eye(count, dtype=squares.dtype, device=squares.device)
    )
    return distances * (count * (count - 1)) / distances.sum()


def _cosines(apart: Tensor, squares: Tensor) -> Tensor:
    """[B, B, D], [B, B] -> [B, B, B]: entry i, j, k is the cosine of the angle at i between j and k."""
    directions = apart / squares.masked_fill(squares < MIN_SQUARED_DISTANCE, math.inf).sqrt().unsqueeze(-1)
    return directions @ directions.transpose(-1, -2)


class RKD(nn.Module):
    """The weighted sum of ``relation_losses`` of the embeddings of a batch.

    Args:
        distance, angle: weights of the two losses, numbers or tensors.
        normalize: scale embeddings to length 1 first, so that their lengths do not count.
    """

    needs = frozenset({"embedding"})

    def __init__(self, distance: float | Tensor = 25.0, angle: float | Tensor = 50.0, normalize: bool = False):
        super().__init__()
        for name, weight in (("distance", distance), ("angle", angle)):
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} is a weight and must not be below 0, got {weight}")
        if not isinstance(distance, Tensor) and not isinstance(angle, Tensor) and distance == angle == 0:
            raise ValueError("kd.distance and kd.angle are both 0: there is nothing to learn from the teacher")
        self.distance, self.angle, self.normalize = distance, angle, normalize

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=rkd")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, given = student.embedding, teacher.embedding
        check_batch(len(own), "kd=rkd")
        if self.normalize:
            own, given = rows_of_length_one(own), rows_of_length_one(given)
        distances, angles = relation_losses(own, given)
        return self.distance * distances + self.angle * angles
