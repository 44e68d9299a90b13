"""SRRL: published values, what the teacher's classifier does not see, and the teachers that are taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Context, Outputs
from kd.methods.srrl import SRRL, regression_losses
from kd.models.ensemble import Ensemble
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries
from tests.methods.test_contract import Lesson, network


def bound(rows, *settings) -> SRRL:
    term = SRRL(*settings)
    term.register_buffer("rows", rows, persistent=False)
    return term


@entries("SRRL")
def test_srrl_is_the_published_one(entry, dtype):
    def loss(student, teacher, weight, gamma, beta, rows, bias):
        own = F.batch_norm(F.conv2d(student, weight), None, None, gamma, beta, training=True).relu().mean((2, 3))
        feature, classifier = regression_losses(own, teacher.mean((2, 3)), rows)
        return entry["settings"]["alpha"] * feature + entry["settings"]["beta"] * classifier

    agrees(entry, dtype, loss)


def test_the_module_computes_the_same_with_its_own_layers():
    own, given, rows = array("f_s_c"), array("f_t_a").abs(), array("head_Wt")
    term = bound(rows, 2.0, 3.0).double()
    pair = Outputs(torch.zeros(8, 6), None, (own,)), Outputs(torch.zeros(8, 6), given.mean((2, 3)))
    term.setup(*pair)
    term.double()
    with torch.no_grad():
        for place, name in ((term.connect[0].weight, "fit_w_1x1"), (term.connect[1].weight, "bn_gamma_16")):
            place.copy_(array(name))
        term.connect[1].bias.copy_(array("bn_beta_16"))
    read = F.batch_norm(
        F.conv2d(own, array("fit_w_1x1")), None, None, array("bn_gamma_16"), array("bn_beta_16"), training=True
    )
    feature, classifier = regression_losses(read.relu().mean((2, 3)), given.mean((2, 3)), rows)
    torch.testing.assert_close(term(*pair, None), 2 * feature + 3 * classifier)


def test_only_what_the_classifier_reads_counts_there_and_agreement_is_zero():
    torch.manual_seed(0)
    teacher, rows = torch.randn(8, 5, dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
    rows[:, 0] = 1
    beside = torch.zeros_like(teacher)
    beside[:, 1:] = 1
    feature, classifier = regression_losses(teacher + beside, teacher, rows)
    assert feature.item() == pytest.approx(0.8) and classifier.item() == 0
    assert [x.item() for x in regression_losses(teacher, teacher, rows)] == [0, 0]
    once = regression_losses(teacher + beside.sin(), teacher, torch.randn(3, 5).double())
    assert all(x.ndim == 0 for x in once)


def test_the_rows_are_those_of_the_teacher_and_stay_frozen():
    lesson = Lesson("srrl")
    term = lesson.objective.terms["srrl"]
    torch.testing.assert_close(term.rows, lesson.teacher.network.classifier.weight.detach())
    assert not term.rows.requires_grad and "rows" not in dict(term.named_parameters())
    logits = F.linear(lesson.answer.embedding, term.rows, lesson.teacher.network.classifier.bias)
    torch.testing.assert_close(logits, lesson.answer.logits)


def test_teachers_without_a_linear_classifier_and_students_without_maps_are_refused():
    with pytest.raises(ValueError, match="kd=srrl reads the weights of the teacher's classifier"):
        SRRL().bind(Context(None, Ensemble([network(0.5).eval()]), None, None, None, None, 16))
    answer = Outputs(torch.zeros(2, 3), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="student shows none"):
        SRRL().setup(answer, answer)
    with pytest.raises(RuntimeError, match="call bind before setup"):
        SRRL().setup(answer._replace(features=(torch.zeros(2, 4, 2, 2),)), answer)
    with pytest.warns(UserWarning, match="numbers below 0"):
        bound(torch.zeros(3, 5)).setup(
            answer._replace(features=(torch.zeros(2, 4, 2, 2),)), answer._replace(embedding=-torch.ones(2, 5))
        )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"feature": -1}, "kd.feature"),
        ({"classifier": -1}, "kd.classifier"),
        ({"feature": 0, "classifier": 0}, "both 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        SRRL(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=srrl", "kd.feature=2", "kd.classifier=3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["srrl"]
    assert (term.feature, term.classifier) == (2, 3)
    assert objective.weights == {"hard": 0.5, "srrl": 4}
