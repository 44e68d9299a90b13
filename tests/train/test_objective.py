"""What an objective says about its terms."""

from __future__ import annotations

from torch import nn

from kd.methods.ekd import EvidentialCrossEntropy
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.methods.tf_kd import TfKD
from kd.train.objective import Objective


class OwnLabels(nn.Module):
    """A term of a user's own that learns labels, and is no subclass."""

    needs, learns_labels = frozenset(), True

    def setup(self, student, teacher):
        """Nothing to build."""


def objective(**terms: nn.Module) -> Objective:
    return Objective(terms, dict.fromkeys(terms, 1.0))


def test_label_terms_are_the_cross_entropies_with_labels():
    ours = objective(hard=CrossEntropy(), soft=Hinton(), labels=EvidentialCrossEntropy(), own=OwnLabels())
    assert ours.label_terms == ["hard", "labels", "own"]


def test_a_term_that_only_reads_labels_is_no_label_term():
    assert objective(designed=TfKD(), soft=Hinton()).label_terms == []


def test_a_label_term_of_weight_0_is_none():
    assert Objective({"hard": CrossEntropy(), "soft": Hinton()}, {"hard": 0, "soft": 1}).label_terms == []
