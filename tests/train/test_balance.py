"""Labels that drown: a warning before the first step names the weight that balances, or the start chooses it."""

from __future__ import annotations

import warnings

import pytest
import torch

from kd.config.weights import WeightSetting
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.runtime.distributed import SINGLE_PROCESS
from kd.runtime.user_warnings import KdWarning
from kd.train.balance import shares_of
from kd.train.gradients import table_of
from kd.train.meter import Meter
from kd.train.objective import Objective
from kd.train.state import TrainState
from tests.train.test_gradients import Slope, line_step


def begin(step, batch, steps=10):
    """Do what a training does before its first step."""
    state = TrainState(step, torch.optim.SGD(step.parameters(), 0.1), None, SINGLE_PROCESS)
    Meter(step, state, steps, 1, "student", True).begin(lambda count: [(batch, None)] * count)
    return state


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_balanced_terms_have_the_share_that_was_asked_for(machine, share):
    step, batch = line_step(machine, (2.0, 1000.0, 0.001), across={"start": 0.5}, along={"rise": 0.3})
    step.objective.balance_to(shares_of(step.objective, share))
    before = step.objective.weights.copy()
    begin(step, batch)
    table = table_of(step, batch, None, ["along", "across"])
    labels = table[0, 0].item()
    for name, norm in zip(("along", "across"), table[1:, 0].tolist(), strict=True):
        assert float(step.objective.full_weight(name)) * norm == pytest.approx(share * labels, rel=1e-6)
    assert step.objective.weights == before and step.objective.full_weight("hard") == 2.0
    loss, parts = step.objective(*seen(step, batch, 0.65))
    right = 2.0 * parts["hard"] + share * 6 / 4 * parts["along"] + share * 6 / 5 * parts["across"]
    torch.testing.assert_close(loss, right)


def seen(step, batch, progress):
    from kd.interfaces import extract_outputs

    return extract_outputs(step.network, batch.image, step.needs), None, batch._replace(progress=progress)


def test_balanced_weights_are_in_the_state_and_are_chosen_once(machine):
    step, batch = line_step(machine)
    step.objective.balance_to({"along": 0.5})
    begin(step, batch)
    saved = step.state_dict()
    assert saved["objective.balanced"].tolist() == pytest.approx([0.5 * 3 / 4])
    other, _ = line_step(machine)
    other.objective.balance_to({"along": 0.5})
    other.load_state_dict(saved)
    state = TrainState(other, torch.optim.SGD(other.parameters(), 0.1), None, SINGLE_PROCESS, step=1)
    Meter(other, state, 10, 1, "student", True).begin(None)  # would ask for batches
    assert float(other.objective.full_weight("along")) == pytest.approx(0.375)
    assert "objective.balanced" not in line_step(machine)[0].state_dict()  # old checkpoints still fit


def test_a_term_without_a_gradient_keeps_its_weight_and_says_so(machine):
    step, batch = line_step(machine, (1.0, 7.0, 1.0))
    step.objective.terms["along"].slope = torch.zeros(2)
    step.objective.balance_to(shares_of(step.objective, None))
    with pytest.warns(KdWarning, match="kd.balance=auto: along has no gradient .* keeps its weight 7"):
        begin(step, batch)
    assert step.objective.balanced.tolist() == pytest.approx([7.0, 0.5 * 3 / 5])


class Late(Slope):
    """A term with a schedule of its own: nothing in the first tenth."""

    def forward(self, student, teacher, batch):
        return super().forward(student, teacher, batch) * (batch.progress > 0.1)


def test_a_term_that_switches_itself_on_later_is_balanced_as_in_the_middle(machine):
    step, batch = line_step(machine)
    step.objective.terms["along"] = Late(-4.0, 0.0)
    step.objective.balance_to({"along": 0.5})
    state = begin(step, batch)
    assert float(step.objective.full_weight("along")) == pytest.approx(0.375)
    assert state.measured[0]["sums"][2][0] == 0  # the rows say what is true at the start


def test_a_warning_about_drowned_labels_names_the_weight_that_balances(machine):
    step, batch = line_step(machine, (1.0, 75.0, 1.0))
    step.objective.weight_settings = {"along": WeightSetting("kd.at.weight"), "across": WeightSetting("kd.weight")}
    with pytest.warns(KdWarning) as caught:
        begin(step, batch)
    (text,) = [str(warning.message) for warning in caught]
    assert text.startswith("student: before the first step the gradient of along is 100 times that of the labels")
    assert "with kd.at.weight=0.38 it would be 0.5 times" in text
    mended, _ = line_step(machine, (1.0, 0.375, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin(mended, batch)


@pytest.mark.parametrize(("end", "warns"), [(0.3, False), (0.31, True)])
def test_a_term_that_never_meets_the_labels_does_not_drown_them(machine, end, warns):
    """As the hint of kd=fitnet_two_stage, alone in its stage."""
    step, batch = line_step(machine, (1.0, 75.0, 1.0))
    step.objective.schedule = {"along": {"end": end}, "hard": {"start": 0.3}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin(step, batch)
    assert any("drowns" in str(each.message) for each in caught) == warns


def test_a_setting_that_mixes_labels_and_teacher_is_solved_for(machine):
    step, batch = line_step(machine, (0.01, 0.99, 0.0))
    step.objective.weight_settings = {"along": WeightSetting("kd.alpha", mixes=True)}
    with pytest.warns(KdWarning, match="132 times .*with kd.alpha=0.27 it would be 0.5 times"):
        begin(step, batch)
    again, _ = line_step(machine, (0.73, 0.27, 0.0))
    table = table_of(again, batch, None, ["along"])
    assert 0.27 * table[1, 0] / table[0, 0] == pytest.approx(0.5, rel=0.02)


def test_a_term_that_pulls_the_way_of_the_labels_drowns_nothing(machine):
    step, batch = line_step(machine, (1.0, 75.0, 1.0))
    step.objective.terms["along"] = Slope(4.0, 12.0)  # a cosine of 0.32, as between soft labels and labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin(step, batch)


def test_a_term_that_reads_logits_alone_gets_a_larger_share():
    terms = {"hard": CrossEntropy(), "soft": Hinton(2.0), "hint": Slope(1.0, 0.0)}
    objective = Objective(terms, dict.fromkeys(terms, 1.0))
    assert shares_of(objective, None) == {"soft": 1.0, "hint": 0.5}
    assert shares_of(objective, 0.3) == {"soft": 0.3, "hint": 0.3}


def test_without_labels_there_is_nothing_to_balance_with(machine):
    objective = Objective({"along": Slope(1.0, 0.0)}, {"along": 1.0})
    with pytest.raises(ValueError, match=r"kd.balance=auto weighs each added term against the labels.*\(its terms: al"):
        shares_of(objective, None)
    assert shares_of(Objective({"hard": Slope(1.0, 0.0, labels=True)}, {"hard": 1.0}), None) == {}
