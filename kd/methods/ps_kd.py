"""Self-Knowledge Distillation with Progressive Refinement of Targets (Kim, Ji, Yoon, Hwang, ICCV 2021),
https://arxiv.org/abs/2006.12000: PS-KD.

There is no teacher: the student learns from what it said itself about the same image one epoch ago. The target is
(1 - a) label + a past, and the loss its cross entropy; a rises from 0 to ``alpha`` over the training, since at first
the past knows nothing. The labels are in it, so no cross entropy stands beside it. Images that the student was wrong
about keep a larger gradient. Costs a memory of N K floats for N images (N = 50,000 and K = 100: 20 MB; ImageNet:
5.1 GB), on the device and in every checkpoint.

Values agree with the authors' code for a given a. There a rises by epochs, a = alpha epoch / epochs; here with every
step, so it is up to one epoch behind. The past of an image that was not seen yet is its label. It is of the view of
that epoch, as published; of several views of an image the first is remembered. With several processes each one sends
its rows to the others. For a mixture of two images (mixup) label and past are those of the image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods.crd import all_gather_rows


def refined_cross_entropy(logits: Tensor, target: Tensor, past: Tensor, share: float | Tensor) -> Tensor:
    """Return -mean_b sum_k [(1 - share) y_k + share past_k] log p_k, a scalar; y: the label as 0 or 1.

    Args:
        logits: [B, K]. target: [B], int64. past: [B, K], earlier probabilities; a row of zeros counts as the label.
        share: of the past, in [0, 1], a number or a scalar tensor.
    """
    label = (torch.arange(logits.shape[-1], device=logits.device) == target[:, None]).to(logits.dtype)
    past = torch.where(past.sum(-1, keepdim=True) > 0, past, label)
    return -(((1 - share) * label + share * past) * torch.log_softmax(logits, dim=-1)).sum(-1).mean()


class PSKD(nn.Module):
    """``refined_cross_entropy`` with a memory of the probabilities of each image.

    Args:
        alpha: share of the past at the end of the training, in [0, 1].
    """

    needs: frozenset[str] = frozenset()
    needs_labels = True  # of every image

    def __init__(self, alpha: float | Tensor = 0.8):
        super().__init__()
        if not isinstance(alpha, Tensor) and not 0 <= alpha <= 1:
            raise ValueError(f"kd.alpha is the share of the past and must lie in [0, 1], got {alpha}")
        self.alpha, self.images = alpha, 0

    def bind(self, context: Context) -> None:
        """Read the number of images."""
        self.images = len(context.targets)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the memory, of zeros."""
        if not self.images:
            raise RuntimeError("the memory of kd=ps_kd has the size of the data set: call bind before setup")
        self.register_buffer("memory", torch.zeros(self.images, student.label_logits.shape[-1]))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        logits = student.label_logits
        index = batch.index.to(self.memory.device)
        past = self.memory[index].to(logits.dtype)  # a copy, so the memory may change before the gradient
        loss = refined_cross_entropy(logits, batch.target, past, self.alpha * batch.progress)
        if self.training:
            first = len(logits) // batch.views
            now = logits[:first].detach().softmax(-1).to(self.memory.dtype)
            rows, now = all_gather_rows(index[:first].contiguous(), now)
            self.memory[rows] = now
        return loss
