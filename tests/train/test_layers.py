"""Fine-tuning by layers: rates by depth as timm has them, and a classifier that learns first."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from kd.data.loader import Loader
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.teachers.live import LiveTeacher
from kd.train import resume
from kd.train.checkpoint import CheckpointFolder
from kd.train.layers import Trunk, network_of_timm, refuse_unlayered
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.step import TrainStep
from kd.train.together import fit_together
from kd.train.training import Training
from tests.pipeline.test_run import command
from tests.train.test_together import Killed, timeless

CPU = torch.device("cpu")
NAME = "test_resnet"
HEAD = {"network.fc.weight", "network.fc.bias"}


class Adapter(nn.Module):
    """A term with weights of its own."""

    needs = frozenset()

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(6, 6)

    def setup(self, student, teacher):
        self.to(student.logits.dtype)

    def forward(self, student, teacher, batch):
        return self.scale(student.logits).square().mean()


@pytest.fixture(scope="module")
def teacher(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


def network(dataset, name: str = NAME, seed: int = 0) -> Normalized:
    torch.manual_seed(seed)
    return Normalized(timm.create_model(name, num_classes=6), dataset.mean, dataset.std)


def about(dataset, machine, *, seed=0, parts=1, double=False, temperature=2.0, **recipe):
    made = network(dataset, seed=seed)
    terms = {"hard": CrossEntropy(), "soft": Hinton(temperature), "adapter": Adapter()}
    objective = Objective(terms, {"hard": 0.5, "soft": 0.5, "adapter": 0.1})
    made = made.double() if double else made
    loader = Loader(dataset, 16, seed, CPU, grad_accum_steps=parts)
    return made, objective, loader, Recipe(**{"epochs": 2, "lr": 0.01, **recipe}), machine


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("name", [NAME, "test_convnext", "test_efficientnet", "test_vit", "tf_efficientnet_lite0"])
def test_rates_fall_by_layer_as_in_timm_and_adapters_learn_at_the_full_rate(dataset, machine, name, weight_decay):
    made, objective = network(dataset, name), Objective({"adapter": Adapter()}, {"adapter": 1.0})
    optimizer = Recipe(3, lr=0.1, weight_decay=weight_decay, layer_decay=0.7).optimizer_of(
        TrainStep(made, objective, machine, False)
    )
    right = create_optimizer_v2(made.network, "adamw", lr=0.1, weight_decay=weight_decay, layer_decay=0.7)
    expected, found = (
        {p: (group["lr_scale"], group["weight_decay"]) for group in each.param_groups for p in group["params"]}
        for each in (right, optimizer)
    )
    layer = objective.terms["adapter"].scale
    assert found == expected | {layer.weight: (1.0, weight_decay), layer.bias: (1.0, 0.0)}
    assert len({scale for scale, _ in expected.values()}) > 3
    assert all(found[p][0] == 1.0 for p in made.network.get_classifier().parameters())


def test_each_step_has_the_rate_of_the_schedule_times_that_of_the_layer(dataset, machine, teacher):
    training = Training(*about(dataset, machine, layer_decay=0.5), stage="student", teacher=teacher)
    training.begin_step(0.3)
    scales = {group["lr_scale"] for group in training.optimizer.param_groups}
    assert max(scales) == 1.0 and len(scales) > 3
    assert all(group["lr"] == training.rate * group["lr_scale"] for group in training.optimizer.param_groups)


@pytest.mark.parametrize(
    "more", [{}, {"ema": 0.9}, {"parts": 3, "clip_norm": 1.0}, {"layer_decay": 0.5}, {"optimizer": "sgd"}], ids=str
)
def test_the_classifier_learns_first_and_the_statistics_of_the_rest_stay(dataset, machine, teacher, more):
    made, *rest = about(dataset, machine, epochs=2, freeze_epochs=1, **more)
    before, seen = weights(made), {}
    adapter = weights(rest[0])

    def log(row):
        seen[row["epoch"]] = weights(made), weights(rest[0])

    fit(made, *rest, stage="student", teacher=teacher, log=log)
    changed = {name for name, value in seen[1][0].items() if not torch.equal(value, before[name])}
    assert changed == HEAD
    assert all(not torch.equal(value, adapter[name]) for name, value in seen[1][1].items()), "what is new learns, too"
    still = {name for name, value in seen[2][0].items() if torch.equal(value, before[name])}
    assert all(p.ndim == 1 and "running" not in name for name, p in before.items() if name in still - {"mean", "std"})
    assert all(p.requires_grad for p in made.parameters())


def test_the_whole_training_may_be_that_of_the_classifier(dataset, machine, teacher):
    made, *rest = about(dataset, machine, epochs=2, freeze_epochs=2)
    before = weights(made)
    fit(made, *rest, stage="student", teacher=teacher)
    assert {name for name, value in weights(made).items() if not torch.equal(value, before[name])} == HEAD


@pytest.mark.parametrize("steps", [3, 8, 14], ids=["frozen", "just_trained", "trained"])
def test_a_killed_training_ends_with_the_bits_of_a_whole_one(dataset, machine, teacher, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(resume, "WRITES_APART", 0)
    how = {"epochs": 3, "freeze_epochs": 1, "layer_decay": 0.6, "ema": 0.9, "clip_norm": 1.0}
    whole, *rest = about(dataset, machine, **how)
    rows = []
    expected = fit(whole, *rest, stage="student", teacher=teacher, log=rows.append)
    folder = CheckpointFolder(tmp_path / "one", minutes=0.0)  # after each step
    killed, *rest = about(dataset, machine, **how)
    trap = Killed(teacher, steps)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, *rest, stage="student", teacher=trap, checkpoints=folder)
    again, *rest = about(dataset, machine, **how)
    found = []
    new = fit(again, *rest, stage="student", teacher=teacher, checkpoints=folder, log=found.append)
    assert all(torch.equal(a, b) for a, b in zip(weights(again).values(), weights(whole).values(), strict=True))
    assert timeless(found) == timeless(rows)
    assert {**new, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("stacked", [False, True])
def test_students_of_one_pass_end_as_alone(dataset, machine, teacher, stacked):
    how = {"epochs": 3, "layer_decay": 0.6, "double": stacked, "optimizer": "sgd"}
    cells = [{"freeze_epochs": 1}, {"freeze_epochs": 1, "temperature": 5.0}, {"freeze_epochs": 2}, {"layer_decay": 0.9}]
    alone = [about(dataset, machine, **{**how, **cell}) for cell in cells]
    together = [about(dataset, machine, **{**how, **cell}) for cell in cells]
    for each in alone:
        fit(*each, stage="student", teacher=teacher)
    lines = []
    trainings = [Training(*each, stage="student", teacher=teacher, together=True) for each in together]
    outcomes = fit_together(trainings, students=None if stacked else 1, always=stacked, say=lines.append)
    assert not [each for each in outcomes if isinstance(each, Exception)]
    for one, other in zip(alone, together, strict=True):
        for name, value in one[0].state_dict().items():
            if stacked:
                torch.testing.assert_close(other[0].state_dict()[name], value, rtol=1e-9, atol=1e-11)
            else:
                assert torch.equal(other[0].state_dict()[name], value), name
    assert any("in stacks of" in line for line in lines) == stacked


def test_other_networks_are_refused(dataset):
    tiny = Normalized(TinyCNN(6, 16, width=0.25), dataset.mean, dataset.std)
    for name, value in (("layer_decay", 0.7), ("freeze_epochs", 1)):
        with pytest.raises(ValueError, match=f"train.student.{name}={value} is for networks of timm"):
            refuse_unlayered(tiny, False, {name: value}, "train.student")
        refuse_unlayered(network(dataset), False, {name: value}, "train.student")
    refuse_unlayered(tiny, True, {"layer_decay": None, "freeze_epochs": 0}, "train.student")
    with pytest.raises(ValueError, match="train.teacher.layer_decay=0.7 is for networks as timm has them"):
        refuse_unlayered(network(dataset), True, {"layer_decay": 0.7}, "train.teacher")
    assert network_of_timm(tiny) is None
    with pytest.raises(ValueError, match="with a classifier"):
        Trunk(Normalized(timm.create_model(NAME, num_classes=0), dataset.mean, dataset.std))


def test_values_out_of_range_are_refused():
    for settings, message in (
        ({"layer_decay": 1.0}, r"layer_decay must be in \(0, 1\)"),
        ({"layer_decay": 0.0}, "layer_decay must be"),
        ({"freeze_epochs": 4}, r"freeze_epochs must be in \[0, epochs=3\]"),
        ({"freeze_epochs": -1}, "freeze_epochs must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe(3, **settings)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("tiny_cnn", "train.teacher.layer_decay=0.85 is for networks of timm, whose layers and classifier have names"),
        ("vea_resnet18", "train.teacher.layer_decay=0.85 is for networks as timm has them: use attention=none"),
    ],
)
def test_the_command_refuses_such_a_recipe_before_anything_is_written(tmp_path, teacher, message):
    done = command("train=finetune", f"teacher={teacher}", outputs=tmp_path / "outputs", cwd=tmp_path, ok=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("optimizer", ["momentum", "sgd"])
def test_an_adapter_may_begin_to_learn_later_with_momentum(dataset, machine, teacher, optimizer):
    """torch's fused SGD takes no group of which a part has momentum."""
    made, objective, loader, recipe, device = about(dataset, machine, optimizer=optimizer)
    late = Objective(dict(objective.terms), dict(objective.weights), {"adapter": {"start": 0.5}})
    before = objective.terms["adapter"].scale.weight.clone()
    fit(made, late, loader, recipe, device, stage="student", teacher=teacher)
    assert not torch.equal(late.terms["adapter"].scale.weight, before)
