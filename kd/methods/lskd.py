"""Logit Standardization in Knowledge Distillation (Sun, Ren, Li, Wang, Cao 2024), https://arxiv.org/abs/2403.01683.

Not a loss but what is done before one: each image's logits become z-scores, the student's and the teacher's, so that
the student need not match how large the teacher's logits are. It wraps any term that reads logits: Hinton's, DKD's.
Costs a mean and a standard deviation a row: nothing beside the networks.

The cross entropy with the labels is a term of its own, on the logits as they are. As in the authors' code the standard
deviation divides by K - 1, and 1e-7 is added to it. The gradient grows as the student's logits get more even, like
1 / their deviation, up to some 1e6: a classifier that starts at zero wants train.student.clip_norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.runtime.user_warnings import warn_user


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Z-scores of each row: [B, K] -> [B, K], (z - mean) / (eps + std)."""
    return (logits - logits.mean(-1, keepdim=True)) / (eps + logits.std(-1, keepdim=True))


def standardized(outputs: Outputs) -> Outputs:
    """The same with z-scores for logits."""
    return outputs._replace(logits=standardize(outputs.logits))


class Standardized(nn.Module):
    """Another term, which is shown z-scores for logits.

    Args:
        term: any term that compares the logits of student and teacher.
    """

    def __init__(self, term: nn.Module):
        super().__init__()
        if "logits" not in term.needs:
            raise ValueError(
                f"LSKD standardises the logits of student and teacher, and {type(term).__name__} does not compare "
                "them: choose a logit method for the term inside, such as kd.methods.hinton.Hinton"
            )
        self.term = term

    @property
    def needs(self) -> frozenset[str]:
        return self.term.needs

    def bind(self, context: Context) -> nn.Module | None:
        """Pass on what surrounds the training."""
        return self.term.bind(context) if hasattr(self.term, "bind") else None

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Let the term inside build what it needs."""
        if student.logits.shape[-1] == 2:
            warn_user(
                "LSKD with two classes: the z-scores of two logits are 0.71 and -0.71, whatever they are, so that "
                "the student learns from the labels alone. kd=hinton works with two classes"
            )
        self.term.setup(standardized(student), standardized(teacher))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.term(standardized(student), standardized(teacher), batch)
