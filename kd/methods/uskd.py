"""From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized
Soft Labels (Yang, Zeng, Li, Zhang, Yuan, Li 2023), https://arxiv.org/abs/2303.13005: its USKD.

There is no teacher: the student's own outputs give soft labels, which are constants for the gradient. The target's is 1
plus the square of its probability minus the batch's mean of these squares. The other classes have Zipf's law,
1 / rank normalised over them, ranked by the sum of what the last layer and a weak classifier say: a linear layer that
reads a middle map, pooled over places. The weak classifier learns the labels, smoothed by 0.1, with a small weight; its
gradient reaches the student's lower layers. Costs that layer in training only. The cross entropy with the labels is a
separate term.

What is ranked is w_k / (1 - w_y) + p_k / (1 - p_y) with the probabilities w and p (``variant=paper``). The authors'
code has the logarithm of p in both places, since a variable is overwritten (``variant=code``, of the published values).
For a mixture of two images (mixup) the target is that of the image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import drop_target
from kd.methods.supervised import cross_entropy
from kd.runtime.user_warnings import warn_user

VARIANTS = ("paper", "code")
SMOOTHING = 0.1  # of the labels of the weak classifier, and
EPS = 1e-6  # added to divisors: the authors'


def target_soft_label(logits: Tensor, target: Tensor) -> Tensor:
    """Return -mean_b g log p_y with g = 1 + p_y^2 - mean_b p_y^2, a constant; a scalar.

    Args:
        logits: [B, K]. target: [B], int64.
    """
    log_p = torch.log_softmax(logits, dim=-1).gather(-1, target[:, None]).squeeze(-1)
    squares = log_p.detach().exp().square()
    return -((1 + squares - squares.mean()) * log_p).mean()


def zipf_labels(logits: Tensor, weak_logits: Tensor, target: Tensor, variant: str = "paper") -> Tensor:
    """Return the soft labels of the classes other than the target, [B, K - 1]; they sum to 1.

    Args:
        logits, weak_logits: [B, K], of the last layer and of the weak classifier. target: [B], int64.
    """
    weak, own = weak_logits.detach().softmax(-1), torch.log_softmax(logits.detach(), dim=-1)
    own = own if variant == "code" else own.exp()
    scores = sum(x / (1 - x.gather(-1, target[:, None]) + EPS) for x in (weak, own))
    rank = torch.sort(scores, dim=-1, descending=True, stable=True).indices.argsort(-1)
    labels = drop_target(1 / (rank + 1).to(logits.dtype), target)
    return labels / labels.sum(-1, keepdim=True)


def nontarget_soft_labels(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of the softmax over the classes other than the target, a scalar: mean over B.

    Args:
        logits: [B, K]. labels: [B, K - 1], of ``zipf_labels``. target: [B], int64.
    """
    return -(labels * torch.log_softmax(drop_target(logits, target), dim=-1)).sum(-1).mean()


class USKD(nn.Module):
    """``target`` x the target's term + ``nontarget`` x the other classes' + ``weak`` x the weak classifier's labels.

    Args:
        target, nontarget, weak: the paper's alpha, beta and mu.
        stage: of the map that the weak classifier reads, from the deep end, -1 is the last.
        variant: "paper" or "code", what ranks the classes.
    """

    needs: frozenset[str] = frozenset()
    student_needs = frozenset({"features"})
    needs_labels = True  # of every image

    def __init__(
        self,
        target: float | Tensor = 1.0,
        nontarget: float | Tensor = 0.1,
        weak: float | Tensor = 0.005,
        stage: int = -2,
        variant: str = "paper",
    ):
        super().__init__()
        for name, weight in (("target", target), ("nontarget", nontarget), ("weak", weak)):
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} is a weight and must not be below 0, got {weight}")
        if stage >= 0:
            raise ValueError(f"kd.stage counts from the deep end, -1 is the last map, got {stage}")
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.target, self.nontarget, self.weak = target, nontarget, weak
        self.stage, self.variant = stage, variant

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the weak classifier.

        Raises:
            ValueError: the student has no such map.
        """
        count, classes = len(student.features), student.logits.shape[-1]
        if count < -self.stage:
            raise ValueError(f"kd.stage={self.stage}: this student shows {count} maps, so {-count} to -1 can be read")
        if classes == 2:
            warn_user(
                "USKD with two classes: there is one class beside the target, so the non-target part is 0 and "
                "kd.nontarget has no effect"
            )
        self.classifier = nn.Linear(student.features[self.stage].shape[1], classes)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        logits, target = student.label_logits, batch.target
        weak = self.classifier(student.features[self.stage].mean((2, 3)))
        rest = nontarget_soft_labels(logits, zipf_labels(logits, weak, target, self.variant), target)
        learned = cross_entropy(weak, target, SMOOTHING)
        return self.target * target_soft_label(logits, target) + self.nontarget * rest + self.weak * learned
