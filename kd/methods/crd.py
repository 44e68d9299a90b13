"""Contrastive Representation Distillation (Tian, Krishnan, Isola, ICLR 2020), https://arxiv.org/abs/1910.10699.

The loss is a classification: from one network's embedding of an image, find that image among K images of other classes
in the memory of the other network, and the other way round. A learned linear layer maps each embedding to ``dim``
numbers of length 1. Each network has a memory with one row for each image of the data set; a step moves the rows of its
batch a little towards the new embeddings.

Costs 2 N dim floats of memory (N = 14,000, dim = 128: 14 MB; ImageNet's 1.28 million: 1.3 GB), which each step copies
once, 2 B N dim multiplications and two tables of B N numbers (ImageNet, B = 64: 0.33 GB each). Published code gathers
the rows of the negatives, B K dim numbers of each memory (B = 64, K = 16384, dim = 128: 0.5 GB, kept for the gradient).
This method multiplies the batch with the whole memory and picks B K of the B N products: the same numbers, on one CPU
core in about a tenth of the time at N = 50,000.

- Negatives are training images of other classes, as in the published mode "exact": a stratified sample without
  replacement, in which all are equally likely. The published sample is not stratified, and draws with replacement where
  there are fewer than K images of other classes; here K is lowered to the number that every class has.
- The sample is a pure function of (seed, epoch, index), as views are. So a checkpoint saves only the seed, the sample
  is the same on every device and in every slice of a batch, and the global random state does not change. ``setup``
  draws the seed.
- The constant Z is N times the mean score of the first batch, as in the published code alone. N, there and in the loss,
  is the number of training images here.
- With several processes each one sends the rows of its slice to the others, so that all memories and Z stay the same;
  this costs five small messages a step.
- For a mixture of two images (mixup), the class and the row are those of the image that the index names.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_embedding
from kd.runtime.rng import counter_device, random_bits


def log_scores(shown: Tensor, memory: Tensor, rows: Tensor, temperature: float | Tensor) -> Tensor:
    """Return <shown_b, memory_rows[b, k]> / T: the logarithms of the scores before the division by Z, [B, 1 + K].

    Args:
        shown: [B, D]. memory: [N, D]. rows: [B, 1 + K], int64: the image's own row, then those of its negatives.
    """
    return (shown @ memory.transpose(-1, -2)).gather(-1, rows) / temperature


def log_partition(sums: Tensor, columns: int, count: int) -> Tensor:
    """Return log Z; Z = count times the mean of the batch's exp(scores).

    Args:
        sums: [B] (or [B, ...]), the logsumexp of each image's scores. columns: number of scores of an image.
        count: N, the number of training images.
    """
    return sums.logsumexp(0) + math.log(count / (len(sums) * columns))


def contrast(scores: Tensor, log_z: Tensor, count: int, eps: float = 1e-7) -> Tensor:
    """Return -mean_b [log(x_0 / (x_0 + c + eps)) + sum_k log(c / (x_k + c + eps))], a scalar; x = exp(scores) / Z.

    Args:
        scores: [B, 1 + K], logarithms; the first column is the image itself.
        log_z: log Z. count: N, the number of training images; c = K / N.
    """
    chance = (scores.shape[-1] - 1) / count
    scores = scores - log_z
    # log(x + c + eps) by logaddexp: the exponential of a score may overflow
    total = torch.logaddexp(scores, torch.full_like(scores, math.log(chance + eps)))
    return -((scores[:, 0] - total[:, 0]) + (math.log(chance) - total[:, 1:]).sum(-1)).mean()


def momentum_update(memory: Tensor, index: Tensor, shown: Tensor, momentum: float | Tensor) -> Tensor:
    """Return the memory [N, D] with the rows of a batch moved towards ``shown`` [B, D] and scaled to length 1."""
    rows = momentum * memory[index] + (1 - momentum) * shown.detach()
    # a copy: the gradient of the scores still needs the memory as it was
    return memory.index_copy(0, index, F.normalize(rows, dim=-1))


def sample_negatives(seed: Tensor, epoch: int, index: Tensor, others: Tensor, count: int) -> Tensor:
    """Return ``count`` different numbers of range(others_b) for each image, [B, count], int64.

    The function cuts the range into ``count`` strata and draws one number in each; a random rotation makes all numbers
    equally likely. A pure function of (seed, epoch, index).

    Args:
        seed: a number as a tensor. index: [B], int64. others: [B], int64, at least ``count``.
    """
    random = random_bits(seed, epoch, index, count + 1) & 0x3FFF_FFFF_FFFF_FFFF
    others = others[:, None]
    edges = torch.arange(count + 1, device=index.device) * others // count
    first, width = edges[:, :-1], edges.diff(dim=-1)
    return (random[:, :1] % others + first + random[:, 1:] % width) % others


def all_gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Concatenate the rows of all processes in the order of ranks: each [B, ...] -> [sum of all B, ...]."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return tensors
    own = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    counts = [int(count) for count in counts]
    gathered = []
    for tensor in tensors:
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])  # slices may differ by an image
        padded[: len(tensor)] = tensor
        slices = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(slices, padded)
        gathered.append(torch.cat([rows[:count] for rows, count in zip(slices, counts, strict=True)]))
    return tuple(gathered)


class CRD(nn.Module):
    """Contrast of each image with images of other classes, in the memory of the other network.

    Args:
        negatives: K, lowered to the number of training images outside of the largest class.
        temperature: T of the scores. momentum: share of a row that an update keeps. dim: width of the memories.
        eps: added to the probabilities in the logarithms.
    """

    needs = frozenset({"embedding"})
    needs_labels = True  # of every image

    def __init__(
        self,
        negatives: int = 16384,
        temperature: float | Tensor = 0.07,
        momentum: float | Tensor = 0.5,
        dim: int = 128,
        eps: float = 1e-7,
    ):
        super().__init__()
        if negatives < 1:
            raise ValueError(f"kd.negatives must be 1 or more, got {negatives}")
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(momentum, Tensor) and not 0 <= momentum < 1:
            raise ValueError(f"kd.momentum must lie in [0, 1): at 1 a memory learns nothing, got {momentum}")
        if dim < 1:
            raise ValueError(f"kd.dim is a width and must be 1 or more, got {dim}")
        if not eps >= 0:
            raise ValueError(f"kd.eps must not be below 0, got {eps}")
        self.negatives, self.temperature, self.momentum, self.dim, self.eps = negatives, temperature, momentum, dim, eps
        self.images = 0

    def bind(self, context: Context) -> None:
        """Read the number of images and the classes of the training images.

        Raises:
            ValueError: all training images are of one class.
        """
        targets = context.targets[context.train]
        sizes = torch.bincount(targets, minlength=int(context.targets.max()) + 1)
        others = len(targets) - sizes
        if others.min() < 1:
            raise ValueError("kd=crd contrasts images of different classes, and all training images are of one class")
        self.images, self.train_count = len(context.targets), len(targets)
        self.count = min(self.negatives, int(others.min()))
        # sorted by class: the images of other classes begin after a class and wrap round the end
        self.register_buffer("order", context.train[targets.argsort(stable=True)], persistent=False)
        self.register_buffer("class_end", sizes.cumsum(0), persistent=False)
        self.register_buffer("others", others, persistent=False)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build layers and memories; the rows of a memory start in random directions.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=crd")
        if not self.images:
            raise RuntimeError("the memories of kd=crd have the size of the data set: call bind before setup")
        self.student = nn.Linear(student.embedding.shape[-1], self.dim)
        self.teacher = nn.Linear(teacher.embedding.shape[-1], self.dim)
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, F.normalize(torch.randn(self.images, self.dim), dim=-1))
        self.register_buffer("log_z", torch.zeros(2))  # of the student's scores and of the teacher's
        self.register_buffer("started", torch.tensor(False))  # whether log_z is set
        self.register_buffer("seed", torch.randint(2**62, ()))

    def rows(self, batch: Batch) -> Tensor:
        """Return positions in the memories, [B, 1 + K], int64: each image's own, then those of its negatives."""
        place = counter_device(self.order.device)
        index, target, others, end = (x.to(place) for x in (batch.index, batch.target, self.others, self.class_end))
        offsets = sample_negatives(self.seed, batch.epoch, index, others[target], self.count)
        negatives = (end[target][:, None] + offsets) % self.train_count
        index, negatives = index.to(self.order.device), negatives.to(self.order.device)
        return torch.cat([index[:, None], self.order[negatives]], dim=-1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = F.normalize(self.student(student.embedding), dim=-1)
        given = F.normalize(self.teacher(teacher.embedding), dim=-1)
        rows = self.rows(batch)
        scores = (
            log_scores(own, self.teacher_memory, rows, self.temperature),
            log_scores(given, self.student_memory, rows, self.temperature),
        )
        sums = torch.stack([x.detach().logsumexp(-1) for x in scores], dim=-1)
        index, own, given, sums = all_gather_rows(rows[:, 0].contiguous(), own.detach(), given.detach(), sums)
        log_z = torch.where(self.started, self.log_z, log_partition(sums, rows.shape[-1], self.train_count))
        if self.training:
            self.log_z, self.started = log_z, torch.ones_like(self.started)
            self.student_memory = momentum_update(self.student_memory, index, own, self.momentum)
            self.teacher_memory = momentum_update(self.teacher_memory, index, given, self.momentum)
        return sum(contrast(x, z, self.train_count, self.eps) for x, z in zip(scores, log_z, strict=True))
