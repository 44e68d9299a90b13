"""Deep Mutual Learning (Zhang et al. 2018), https://arxiv.org/abs/1706.00384.

Two students, no teacher: each learns from the labels and from the other's prediction for the same image. The peer is
another student of the same architecture with other initial weights. It belongs to the method, trains together with the
student, and is dropped after the training. Costs a second student in every step.

The paper updates the two in turn; here both take their step at once, from the same forward passes, as in most
implementations. Some implementations let the gradient of one student's loss flow into the other (KD_Lib regresses raw
logits, not detached); in the paper and here each loss trains only its own network.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.supervised import CrossEntropy


def mutual(student_logits: Tensor, peer_logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return (T^2 KL(peer || student), T^2 KL(student || peer)); each has a gradient for its second network alone.

    Args:
        student_logits, peer_logits: [B, K].
    """
    return (
        soft_label_kl(student_logits, peer_logits.detach(), temperature),
        soft_label_kl(peer_logits, student_logits.detach(), temperature),
    )


class Mutual(nn.Module):
    """Losses of student and peer: weight (KL(peer || student) + KL(student || peer)) + hard CE(peer).

    The weights are settings of this class, and the term's weight in ``kd.weights`` is 1: another weight there would
    scale the steps of the peer too.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        temperature: float | Tensor = 1.0,
        weight: float | Tensor = 1.0,
        hard: float | Tensor = 1.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not any(isinstance(part, Tensor) or part for part in (weight, hard)):
            raise ValueError("kd.weight and kd.hard are both 0: there is nothing to learn")
        self.temperature, self.weight, self.hard = temperature, weight, hard
        self.labels = CrossEntropy(label_smoothing)

    def bind(self, context: Context) -> None:
        self.peer, self.forward_network = context.make_student(1), context.forward

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        peer = self.forward_network(self.peer, batch.image, frozenset())
        to_student, to_peer = mutual(student.logits, peer.logits, self.temperature)
        return self.weight * (to_student + to_peer) + self.hard * self.labels(peer, None, batch)
