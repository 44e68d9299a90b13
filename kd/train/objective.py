"""The training objective: a weighted sum of named terms, and the value of each term for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kd.data.samplers import BLOCKS, check_sampler
from kd.interfaces import Batch, Context, Outputs
from kd.methods.supervised import CrossEntropy
from kd.train.schedules import window

if TYPE_CHECKING:  # what loads a network needs no OmegaConf
    from kd.config.weights import WeightSetting


class Objective(nn.Module):
    """Weighted sum of terms. A term of weight 0 is left out: it is neither computed nor logged.

    Args:
        terms: modules called as ``term(student, teacher, batch)``, each returning an unweighted scalar.
        weights: a number (or a tensor, for stacked students) per term, under the same names.
        schedule: when a term is active, for some terms: keyword arguments of ``kd.train.schedules.window``.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float | Tensor],
        schedule: Mapping[str, Mapping[str, float]] | None = None,
    ):
        super().__init__()
        schedule = schedule or {}
        if set(terms) != set(weights):
            raise ValueError(f"kd.terms has {sorted(terms)}, kd.weights has {sorted(weights)}: the names must agree")
        if not set(schedule) <= set(terms):
            raise ValueError(f"kd.schedule names {sorted(set(schedule) - set(terms))}; kd.terms has {sorted(terms)}")
        for name, weight in weights.items():
            if not isinstance(weight, Tensor) and not 0 <= weight < float("inf"):
                raise ValueError(f"kd.weights.{name} must be a number of 0 or more, got {weight}")
        active = [name for name in terms if isinstance(weights[name], Tensor) or weights[name] != 0]
        if not active:
            raise ValueError("every weight in kd.weights is 0: at least one must be above 0")
        self.terms = nn.ModuleDict({name: terms[name] for name in active})
        self.weights = {name: weights[name] for name in active}
        self.schedule = {name: dict(schedule[name]) for name in active if name in schedule}
        for name, part in schedule.items():
            try:
                window(0.0, **part)  # raises for a wrong number
            except ValueError as error:
                raise ValueError(f"kd.schedule.{name}: {error}") from None
        ends = {0.0, *(part.get(end, 0.0) for part in self.schedule.values() for end in ("start", "end"))}
        for progress in (end for end in ends if end < 1):
            if not any(self.counts(name, progress) for name in active):
                raise ValueError(
                    f"kd.schedule leaves no term at {progress:g} of the training: at least one must be active"
                )
        for name, term in self.terms.items():
            if not (hasattr(term, "needs") and hasattr(term, "setup")):
                kind = type(term).__name__
                raise ValueError(f"kd.terms.{name}: {kind} has no needs or no setup; see docs/add-a-method.md")
        samplers = {name: sampler for name in active if (sampler := getattr(terms[name], "sampler", None))}
        if len(set(samplers.values())) > 1:
            named = ", ".join(f"{name} for {sampler}" for name, sampler in samplers.items())
            raise ValueError(
                f"kd.terms ask for several samplers ({named}), and a training has one: combine other methods"
            )
        self.sampler: str | None = next(iter(samplers.values()), None)  # what a batch holds beside its images
        check_sampler(self.sampler)
        several = [name for name in active if getattr(terms[name], "views", 1) > 1]
        if self.sampler and several:
            raise ValueError(
                f"kd.terms ask for several views of each image ({', '.join(several)}) and for {self.sampler} beside "
                f"them ({', '.join(samplers)}), and a training shows one of the two: combine other methods"
            )
        self.extends = False  # whether a larger network than the student is deployed
        self.weight_settings: Mapping[str, WeightSetting] = {}  # by term, for messages
        self.balance: dict[str, float] = {}  # by term: see ``balance_to``

    @property
    def needs(self) -> frozenset[str]:
        """What the terms read of teacher and student, of {"logits", "embedding", "features", "class_maps"}.

        Nothing means that no teacher is read.
        """
        return frozenset().union(*(term.needs for term in self.terms.values()))

    @property
    def student_needs(self) -> frozenset[str]:
        """What the terms read of the student: ``needs``, and what a term names as ``student_needs`` beside it."""
        return self.needs.union(*(getattr(term, "student_needs", ()) for term in self.terms.values()))

    @property
    def views(self) -> int:
        """The views of each image that the terms compare: the most that a term names as ``views``, else 1."""
        return max(views_of(term) for term in self.terms.values())

    @property
    def second_augment(self) -> bool:
        """Whether a term of several views wants the second one made by ``second_augment``."""
        return any(views_of(term) > 1 and getattr(term, "second_augment", False) for term in self.terms.values())

    @property
    def label_readers(self) -> list[str]:
        """The terms that need the label of every image: those with ``needs_labels``."""
        return [name for name, term in self.terms.items() if getattr(term, "needs_labels", False)]

    @property
    def label_terms(self) -> list[str]:
        """The terms that are cross entropies with the labels: ``CrossEntropy``, or those with ``learns_labels``."""
        return [
            name
            for name, term in self.terms.items()
            if isinstance(term, CrossEntropy) or getattr(term, "learns_labels", False)
        ]

    @property
    def aligning(self) -> list[nn.Module]:
        """The terms that change the gradient of all but the labels' terms before a step: see ``kd.train.apart``."""
        return [term for term in self.terms.values() if getattr(term, "aligns", False)]

    @property
    def added_terms(self) -> list[str]:
        """The terms that are no ``label_terms``."""
        return [name for name in self.terms if name not in self.label_terms]

    def balance_to(self, shares: Mapping[str, float]) -> None:
        """Let the start of the training choose the weights of terms: see ``kd.train.balance``.

        The chosen weights are a buffer, so that checkpoints hold them. Until then they are those of the settings.

        Args:
            shares: by term, its gradient on the student as a multiple of the labels' gradient.
        """
        self.balance = dict(shares)
        self.register_buffer("balanced", torch.tensor([float(self.weights[name]) for name in self.balance]))

    def bind(self, context: Context) -> nn.Module:
        """Give networks and data set to terms that need them; return the module to train.

        Most methods need only outputs. Three kinds need more: contrastive memories depend on the size of the data set,
        mutual learning adds a second student, and SimKD deploys more than the student. Class means and the distances of
        classes take a pass over the training images, ``context.over_train``. A term's ``bind(context)`` may return a
        network that is trained in place of the student, or None; it is deployed too, see ``deploy``.
        """
        for name, term in self.terms.items():
            network = term.bind(context) if hasattr(term, "bind") else None
            if network is not None:
                self._refuse_other_maps(name, network)
                context = context._replace(student=network)
                self.extends = self.extends or not hasattr(term, "deploy")
        return context.student

    def _refuse_other_maps(self, name: str, network: nn.Module) -> None:
        """Raise ValueError if a term's network has a map more than the student and another term pairs maps."""
        others = [
            other
            for other, term in self.terms.items()
            if other != name and "features" in {*term.needs, *getattr(term, "student_needs", ())}
        ]
        if others and any(getattr(module, "appends_map", False) for module in network.modules()):
            raise ValueError(
                f"kd.terms: {name} adds a map after the student's last one, and {', '.join(others)} would take it for "
                "the student's own: train them in two runs"
            )

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return the network that is measured, stored and shipped, from the one that ``bind`` returned.

        A term whose ``bind`` returns a network may have a ``deploy(network)``, which returns a network of the student's
        form: NORM merges the layers that it trains into the classifier. It leaves ``network`` as it is. Without such a
        term the trained network is returned.
        """
        for term in reversed(self.terms.values()):
            network = term.deploy(network) if hasattr(term, "deploy") else network
        return network

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Give every term one example, so that adapters and memories exist before the optimiser."""
        for term in self.terms.values():
            term.setup(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the terms, and each of them.

        Of a batch of several views a term sees as many as it names (``views``, else 1), the first ones, so a method of
        one view does beside a method of two what it does alone. A term with ``every_view``, such as the cross entropy
        with the labels, sees all.
        """
        parts = {  # outside its window a term is not computed: it costs nothing, and its adapters stay unchanged
            name: term(*seen(term, student, teacher, batch))
            if self.counts(name, batch.progress if self.schedule else 1.0)
            else student.logits.new_zeros(())
            for name, term in self.terms.items()
        }
        return sum(self.weight(name, batch) * part for name, part in parts.items()), parts

    def split(self, parts: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the labels' terms and that of all others, from the parts of ``forward``."""
        labels = self.label_terms
        both = [name for name in parts if name in labels], [name for name in parts if name not in labels]
        return tuple(sum(self.weight(name, batch) * parts[name] for name in names) for names in both)

    def counts(self, name: str, progress: float) -> bool:
        """Whether a term is active at this point of the training."""
        own = {key: value for key, value in self.schedule.get(name, {}).items() if key not in ("rise", "fall")}
        return window(progress, **own) > 0

    def weight(self, name: str, batch: Batch) -> float | Tensor:
        """Return the weight of a term at this point of the training."""
        return self.weight_at(name, batch.progress)

    def weight_at(self, name: str, progress: float) -> float | Tensor:
        """Return the weight of a term when this share of the training is done."""
        full = self.full_weight(name)
        return full if name not in self.schedule else full * window(progress, **self.schedule[name])

    def full_weight(self, name: str) -> float | Tensor:
        """Return the weight of a term inside its window, after its rise."""
        return self.balanced[list(self.balance).index(name)] if name in self.balance else self.weights[name]


def views_of(term: nn.Module) -> int:
    """The views of each image that a term compares, or the blocks of rows of its sampler."""
    return BLOCKS.get(getattr(term, "sampler", None)) or getattr(term, "views", 1)


def seen(
    term: nn.Module, student: Outputs, teacher: Outputs | None, batch: Batch
) -> tuple[Outputs, Outputs | None, Batch]:
    """Return what a term sees of a batch of several views."""
    views = views_of(term)
    if views >= batch.views or getattr(term, "every_view", False):
        return student, teacher, batch
    batch = batch.first_views(views)
    count = len(batch.index)
    return student.first_rows(count), teacher and teacher.first_rows(count), batch
