"""Regularizing Class-wise Predictions via Self-knowledge Distillation (Yun, Park, Lee, Shin, CVPR 2020),
https://arxiv.org/abs/2003.13964: CS-KD.

There is no teacher: what the student says of an image learns from what it says of another image of the same class,
T^2 KL(softmax(z(x') / T) || softmax(z(x) / T)), where x' is constant. So the predictions of a class come together, and
what is wrong with one image is not learnt by heart. The sampler ``same_class_pairs`` puts x' beside x: a batch of B
images has 2 B rows. Labels are learnt for the first B, as in the authors' code.

Values agree with that code for given logits. Two things differ in training. There x' is drawn from all images of the
class and may be x itself; here it is another one, if there is one. There x' goes through the network in a forward pass
of its own, without gradient; here in that of x, so that batch norm takes its statistics over both.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import two_blocks
from kd.methods.hinton import soft_label_kl


def class_wise_kl(logits: Tensor, others: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL(softmax(others / T) || softmax(logits / T)), a scalar: summed over K, mean over B.

    Args:
        logits, others: [B, K], of pairs of images of one class; ``others`` gets no gradient.
        temperature: T > 0, a number or a scalar tensor.
    """
    return soft_label_kl(logits, others.detach(), temperature)


class CSKD(nn.Module):
    """``class_wise_kl`` of the pairs of a batch."""

    needs: frozenset[str] = frozenset()
    sampler = "same_class_pairs"

    def __init__(self, temperature: float | Tensor = 4.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return class_wise_kl(*two_blocks(student.label_logits, batch, "kd=cs_kd"), self.temperature)
