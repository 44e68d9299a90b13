"""Soft labels of a teacher whose wrong answers are put right: the first half of Swapped Logit Distillation (Limantoro,
Lin, Wang, Tsai, Shuai, Huang, Cheng 2025), https://arxiv.org/abs/2504.20108, called label augmentation elsewhere.

Where the teacher's largest logit is not the label's, the two change places; then Hinton's term. So the teacher is right
on every image, as sure as it was, and the labels reach the student by way of the teacher: the published training has no
cross entropy beside it. The published code with ``logit_stand`` makes both networks' logits z-scores first, as kd=lskd
does. Costs no more than Hinton's term.

Swapped Logit Distillation itself sums six temperatures and two views, and swaps the student's logits too. For a mixture
of two images (mixup) the label is that of the image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.lskd import standardize
from kd.runtime.user_warnings import warn_user


def swap(logits: Tensor, target: Tensor) -> Tensor:
    """Return ``logits`` where the largest logit and the target's have changed places: [B, K], [B] -> [B, K]."""
    place = torch.arange(logits.shape[-1], device=logits.device)
    of_target, of_top = target[:, None] == place, logits.argmax(-1, keepdim=True) == place
    lowered = torch.where(of_top, logits.gather(-1, target[:, None]), logits)
    return torch.where(of_target, logits.amax(-1, keepdim=True), lowered)


class SwappedKD(nn.Module):
    """Hinton's term with the teacher put right.

    Args:
        temperature: T of both softmaxes.
        logit_stand: whether the logits become z-scores first.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 4.0, logit_stand: bool = False):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self.logit_stand = logit_stand

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        if self.logit_stand and student.logits.shape[-1] == 2:
            warn_user(
                "kd=kd_swap with kd.logit_stand and two classes: the z-scores of two logits are always 0.71 and -0.71, "
                "so this term has no gradient. kd.logit_stand=false works with two classes"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        pair = student.logits, swap(teacher.logits, batch.target)
        if self.logit_stand:
            pair = tuple(map(standardize, pair))
        return soft_label_kl(*pair, self.temperature)
