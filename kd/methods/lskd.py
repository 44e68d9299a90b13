"""Logit Standardization in Knowledge Distillation (Sun, Ren, Li, Wang, Cao 2024), https://arxiv.org/abs/2403.01683.

A transformation before a loss and not a loss: the logits of student and teacher become z-scores, image by image, so
that the student need not match the size of the teacher's logits. It wraps any term that reads logits: Hinton's, DKD's.
Costs a mean and a standard deviation a row: negligible beside the networks.

The cross entropy with the labels is a separate term on the plain logits. As in the authors' code the standard deviation
divides by K - 1, and 1e-7 is added to it. The gradient grows like 1 / the standard deviation of the student's logits,
up to about 1e6: with a classifier that starts at zero, set train.student.clip_norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.runtime.user_warnings import warn_user


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the z-scores of each row, (z - mean) / (eps + std): [B, K] -> [B, K]."""
    return (logits - logits.mean(-1, keepdim=True)) / (eps + logits.std(-1, keepdim=True))


def standardized(outputs: Outputs) -> Outputs:
    """Return ``outputs`` with z-scores in place of the logits."""
    return outputs._replace(logits=standardize(outputs.logits))


class Standardized(nn.Module):
    """Another term, which gets z-scores in place of logits.

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
        """Pass the context to the term inside."""
        return self.term.bind(context) if hasattr(self.term, "bind") else None

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Set up the term inside."""
        if student.logits.shape[-1] == 2:
            warn_user(
                "LSKD with two classes: the z-scores of two logits are always 0.71 and -0.71, so the student learns "
                "from the labels alone. kd=hinton works with two classes"
            )
        self.term.setup(standardized(student), standardized(teacher))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.term(standardized(student), standardized(teacher), batch)
