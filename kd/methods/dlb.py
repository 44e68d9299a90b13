"""Self-Distillation from the Last Mini-Batch for Consistency Regularization (Shen, Xu, Yang, Li, Guo, CVPR 2022),
https://arxiv.org/abs/2203.16172: DLB.

There is no teacher: the student learns from what it said itself about the same image one step ago. The sampler
``half_previous`` puts the images of the previous step, in another view, beside the B new images of a step, so a batch
has 2 B rows, and an image is seen in two successive steps. All rows learn their labels; the previous images learn
T^2 KL(softmax(past / T) || softmax(now / T)) as well, where past is constant. Costs about twice the student's time and
memory, and the logits of one batch, which are state of the term and so in every checkpoint.

Values agree with the authors' code for given logits. There the two halves go through the network in two forward passes;
here in one, so that batch norm takes its statistics over both. The first step of a training has no past: its second
half learns labels alone. So does that of each epoch's first step with mixup or CutMix, which mix an image with another
one in every epoch, and that of the first step after a training resumed with another number of processes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import two_blocks
from kd.methods.hinton import soft_label_kl_each


def last_batch_kl(now: Tensor, past: Tensor, temperature: float | Tensor, known: Tensor | None = None) -> Tensor:
    """Return T^2 KL(softmax(past / T) || softmax(now / T)), a scalar: summed over K, mean over B.

    Args:
        now, past: [B, K], logits of the same images; ``past`` gets no gradient.
        temperature: T > 0, a number or a scalar tensor.
        known: bool [B], images that have a past; the others count as 0. None: all have.
    """
    each = soft_label_kl_each(now, past.detach(), temperature)
    return each.mean() if known is None else torch.where(known, each, 0.0).mean()


class DLB(nn.Module):
    """``last_batch_kl`` with the logits of the previous step, kept by the place of an image in its batch."""

    needs: frozenset[str] = frozenset()
    sampler = "half_previous"

    def __init__(self, temperature: float | Tensor = 3.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature, self.rows = temperature, 0

    def bind(self, context: Context) -> None:
        """Read the number of images of a step."""
        self.rows = context.batch_size

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the memory of one step, of no image."""
        if not self.rows:
            raise RuntimeError("the memory of kd=dlb has the size of a batch: call bind before setup")
        self.register_buffer("past", torch.zeros(self.rows, student.label_logits.shape[-1]))
        self.register_buffer("index", torch.full((self.rows,), -1))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        new, now = two_blocks(student.label_logits, batch, "kd=dlb")
        index, previous = two_blocks(batch.index.to(self.index.device), batch, "kd=dlb")
        rows = slice(batch.first_row, batch.first_row + len(new))
        # copies, so the memory may change before the gradient
        past, known = self.past[rows].to(now.dtype, copy=True), self.index[rows] == previous
        loss = last_batch_kl(now, past, self.temperature, known)
        if self.training:
            self.past[rows] = new.detach().to(self.past.dtype)
            self.index[rows] = index
        return loss
