"""RRD: Relational Representation Distillation (Giakoumoglou & Stathaki 2024), https://arxiv.org/abs/2407.12073.

A memory holds the teacher's embeddings of the last images, each after a linear layer as ``dim`` numbers of length 1.
The student learns which of them are similar to an image: its softmax over the memory should be the teacher's, each at
its own temperature. The batch enters the memory first, over the oldest rows, so an image finds itself there. A cross
entropy: the value contains the teacher's entropy and is not 0 where student and teacher agree.

As published the teacher's side is a constant, so its linear layer gets no gradient and stays as it was drawn, a random
projection; the student's learns. Costs the student's layer in training, ``memory`` times ``dim`` numbers (8 MB at the
defaults), and as many multiplications for each image and network.

- The memory has no more rows than there are training images: a second row of an image would say nothing new.
- It starts in random directions with rows of length 1; the published code scales its columns instead.
- With several processes each one sends its rows to the others, so that all memories stay the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_embedding
from kd.methods.crd import all_gather_rows


def relational_loss(
    own: Tensor,
    given: Tensor,
    memory: Tensor,
    temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.02,
) -> Tensor:
    """Return -mean_b sum_k softmax(given M' / T_teacher)_k log softmax(own M' / T)_k, a scalar.

    Args:
        own, given: [B, D], of student and teacher; no gradient reaches ``given``. memory: M, [K, D].
    """
    target = (given.detach() @ memory.transpose(-1, -2) / teacher_temperature).softmax(-1)
    return -(target * (own @ memory.transpose(-1, -2) / temperature).log_softmax(-1)).sum(-1).mean(-1)


def replace_oldest(memory: Tensor, position: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return a memory [K, D] with ``rows`` [B, D] in place of those from ``position`` on, and the next position."""
    size = len(memory)
    rows = rows.detach()[-size:]
    places = (position + torch.arange(len(rows), device=memory.device)) % size
    return memory.index_copy(0, places, rows.to(memory.dtype)), (position + len(rows)) % size


class RRD(nn.Module):
    """``relational_loss`` of the embeddings of a batch.

    Args:
        temperature, teacher_temperature: of the two softmaxes over the memory.
        memory: K, its rows; lowered to the number of training images. dim: D, its width.
    """

    needs = frozenset({"embedding"})

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        teacher_temperature: float | Tensor = 0.02,
        memory: int = 16384,
        dim: int = 128,
    ):
        super().__init__()
        for name, value in (("temperature", temperature), ("teacher_temperature", teacher_temperature)):
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        for name, value in (("memory", memory), ("dim", dim)):
            if value < 1:
                raise ValueError(f"kd.{name} must be 1 or more, got {value}")
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.memory, self.dim = memory, dim
        self.rows = 0

    def bind(self, context: Context) -> None:
        """Read the number of training images."""
        self.rows = min(self.memory, len(context.train))

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build layers and memory.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=rrd")
        if not self.rows:
            raise RuntimeError("the memory of kd=rrd has at most the size of the data set: call bind before setup")
        self.student = nn.Linear(student.embedding.shape[-1], self.dim)
        self.teacher = nn.Linear(teacher.embedding.shape[-1], self.dim).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(self.rows, self.dim), dim=-1))
        self.register_buffer("position", torch.tensor(0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = F.normalize(self.student(student.embedding), dim=-1)
        given = F.normalize(self.teacher(teacher.embedding), dim=-1)
        queue, position = replace_oldest(self.queue, self.position, *all_gather_rows(given))
        if self.training:
            self.queue, self.position = queue, position
        return relational_loss(own, given, queue, self.temperature, self.teacher_temperature)
