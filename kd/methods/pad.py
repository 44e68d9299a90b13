"""PAD: Prime-Aware Adaptive Distillation (Zhang, Lan, Dai, Zeng, Bai, Chang, Wei, ECCV 2020),
https://arxiv.org/abs/2008.01458.

The student regresses the teacher's embedding, and predicts how far from it it will be: a linear layer and batch norm
give the logarithm of a variance for each number of the teacher's embedding. A difference counts by one over its
variance, so images that the student can learn count more than those that it cannot. Costs a linear layer in training,
and a second one where the widths of the two embeddings differ, from the student's to the teacher's.

The value is a log-likelihood and may be below 0. The variance is learned by its own gradient in the same step, so the
term cannot be lowered by doubting everything. Here the term is active from the start; torchdistill first trains with
the plain squared difference of embeddings, then adds the variance for the last epochs.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding


def weighted_distance(student: Tensor, teacher: Tensor, log_variance: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the mean over all elements of (e_t - e_s)^2 / (eps + exp(v)) + v, a scalar.

    Args:
        student, teacher, log_variance: [B, D]. eps: keeps a variance above 0.
    """
    return ((teacher - student).square() / (eps + log_variance.exp()) + log_variance).mean()


class PAD(nn.Module):
    """``weighted_distance`` of embeddings; the variance is predicted from the student's.

    Args:
        eps: added to the variance.
    """

    needs = frozenset({"embedding"})

    def __init__(self, eps: float = 1e-6):
        super().__init__()
        if not eps > 0:
            raise ValueError(f"kd.eps keeps a variance above 0 and must be above 0 itself, got {eps}")
        self.eps = eps

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the layers.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=pad")
        own, given = student.embedding.shape[-1], teacher.embedding.shape[-1]
        self.align = nn.Identity() if own == given else nn.Linear(own, given)
        self.variance = nn.Sequential(nn.Linear(own, given, bias=False), nn.BatchNorm1d(given))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = student.embedding
        check_batch(len(own), "kd=pad")
        return weighted_distance(self.align(own), teacher.embedding, self.variance(own), self.eps)
