"""Named terms and weights: what is minimised, and the parts of it for the log."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs


class Objective(nn.Module):
    """The weighted sum of the terms. A term whose weight is 0 is left out: it is neither run nor logged.

    Args:
        terms: modules called as ``term(student, teacher, batch)``, each returning an unweighted scalar.
        weights: one number (or tensor, for stacked students) a term, under the same names.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float | Tensor]):
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(f"kd.terms has {sorted(terms)}, kd.weights has {sorted(weights)}: the names must agree")
        active = [name for name in terms if isinstance(weights[name], Tensor) or weights[name] != 0]
        if not active:
            raise ValueError("every weight in kd.weights is 0: there is nothing to learn from")
        self.terms = nn.ModuleDict({name: terms[name] for name in active})
        self.weights = {name: weights[name] for name in active}

    @property
    def needs(self) -> frozenset[str]:
        """What the terms read of the teacher: a subset of {"logits", "embedding", "features"}."""
        return frozenset().union(*(term.needs for term in self.terms.values()))

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Show every term one example, so that adapters and memories exist before the optimiser does."""
        for term in self.terms.values():
            term.setup(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {name: term(student, teacher, batch) for name, term in self.terms.items()}
        return sum(self.weights[name] * part for name, part in parts.items()), parts
