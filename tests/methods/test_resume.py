"""Every method: a training that is interrupted anywhere and resumed ends with the same bits."""

from __future__ import annotations

import pytest
import torch

from kd.data.loader import Loader
from kd.evaluation.predict import outputs_over
from kd.interfaces import Context
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.teachers.live import LiveTeacher
from kd.train.checkpoint import CheckpointFolder
from kd.train.loop import fit
from kd.train.recipe import Recipe
from tests.methods.test_contract import METHODS, chosen, see
from tests.views import AUGMENT, SECOND


class Killed(Exception):
    """Like SIGKILL: the process writes nothing because of it."""


class Killing(CheckpointFolder):
    """Write a checkpoint after every step, and stop the training after ``writes`` of them."""

    writes = 0

    def write(self, place, state):
        super().write(place, state)
        self.writes -= 1
        if self.writes == 0:
            raise Killed


def network(dataset, width: float, seed: int) -> Normalized:
    torch.manual_seed(seed)
    return Normalized(TinyCNN(6, 16, width=width, dropout=0.3), dataset.mean, dataset.std)


def train(
    method, dataset, machine, checkpoints: CheckpointFolder | None = None, pick_by: str = "accuracy", **drawn
) -> tuple[dict, list[dict]]:
    """Two epochs of three steps: eight checkpoints."""
    from kd.build import build_objective

    objective = build_objective(chosen(method))
    teacher = LiveTeacher(network(dataset, 0.5, 9), machine, objective.needs)
    targets, train = torch.from_numpy(dataset.targets), torch.from_numpy(dataset.train)
    shown = {"augment": AUGMENT, "second": SECOND, "views": objective.views, "sampler": objective.sampler}
    loader = Loader(dataset, 32, 0, machine.device, **{**shown, **drawn})
    context = Context(
        student=network(dataset, 0.25, 0),
        teacher=teacher.network,
        make_student=lambda number: network(dataset, 0.25, number),
        forward=see,
        targets=targets,
        train=train,
        image_size=16,
        over_train=lambda model, needs: outputs_over(model, needs, loader, dataset.train, machine),
        batch_size=32,
    )
    student, rows = objective.bind(context), []
    torch.manual_seed(torch.initial_seed() + 1)  # a resuming process has another random state
    fit(
        student,
        objective,
        loader,
        Recipe(2, ema=0.9, clip_norm=1.0),
        machine,
        stage="student",
        teacher=teacher if objective.needs else None,
        checkpoints=checkpoints,
        pick_by=pick_by,
        log=rows.append,
    )
    whole = {**student.state_dict(), **{f"term.{name}": value for name, value in objective.state_dict().items()}}
    return whole, [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_to_the_bit(method, dataset, machine, tmp_path):
    broken_off(method, dataset, machine, tmp_path)


@pytest.mark.parametrize("balance", ["sample", "weight"])
def test_so_it_does_where_rare_classes_count_more(balance, dataset, machine, tmp_path):
    broken_off("dkd", dataset, machine, tmp_path, pick_by="macro_f1", balance=balance, mixup=0.5)


def broken_off(method, dataset, machine, tmp_path, **how):
    weights, rows = train(method, dataset, machine, **how)
    checkpoints = Killing(tmp_path / "student", minutes=0)
    for checkpoints.writes in (3, 2, 1):  # after the last step of the first epoch, within the second, and a step later
        with pytest.raises(Killed):
            train(method, dataset, machine, checkpoints, **how)
    weights_of_pieces, rows_of_pieces = train(method, dataset, machine, checkpoints, **how)
    assert rows_of_pieces == rows
    assert set(weights_of_pieces) == set(weights)
    assert not [name for name, value in weights.items() if not torch.equal(value, weights_of_pieces[name])]
