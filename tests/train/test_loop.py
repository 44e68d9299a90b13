"""The training loop: equal seeds give equal bits, a cached teacher equals the live one, a NaN loss stops the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kd.data.loader import Loader
from kd.interfaces import Batch, Outputs
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache, teacher_factory
from kd.train.finite import NonFiniteLoss
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.schedules import warmup_cosine, window
from tests.views import AUGMENT

CPU = torch.device("cpu")


def student(dataset, seed=0, dropout=0.2) -> nn.Module:
    torch.manual_seed(seed)
    return Normalized(TinyCNN(6, 16, width=0.25, dropout=dropout), dataset.mean, dataset.std)


@pytest.fixture(scope="module")
def live(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


def trained(dataset, machine, teacher, *, seed=0, epochs=2, **recipe):
    network, rows = student(dataset, seed), []
    objective = Objective({"hard": CrossEntropy(), "soft": Hinton(4.0)}, {"hard": 0.1, "soft": 0.9})
    loader = Loader(dataset, 16, seed, CPU, augment=AUGMENT)
    about = fit(
        network, objective, loader, Recipe(epochs, **recipe), machine, stage="student", teacher=teacher, log=rows.append
    )
    return network, rows, about


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_equal_seeds_give_equal_bits_and_other_seeds_others(dataset, machine, live):
    torch.manual_seed(123)  # earlier draws must not matter
    first = trained(dataset, machine, live, ema=0.9, clip_norm=1.0)
    torch.rand(7)
    again = trained(dataset, machine, live, ema=0.9, clip_norm=1.0)
    other = trained(dataset, machine, live, ema=0.9, clip_norm=1.0, seed=1)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in r[1]] for r in (first, again)
    ]
    assert same(first[0], again[0]) and timeless[0] == timeless[1]
    assert not same(first[0], other[0])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cached_teacher_is_the_live_one_to_the_bit(dataset, live, tmp_path, precision):
    from kd.runtime.device import resolve_device

    device = resolve_device("cpu", precision)
    teacher = LiveTeacher(live.network, device)
    loader = Loader(dataset, 16, 0, CPU, augment=AUGMENT)
    cache = open_cache(Store(tmp_path), {"test": 1}, teacher, loader, 2, Timer())
    for epoch in (1, 2):
        for batch in loader.epoch(epoch):
            assert torch.equal(cache(batch).logits, teacher(batch).logits.float())
    assert same(trained(dataset, device, cache)[0], trained(dataset, device, teacher)[0])


def test_the_teacher_is_in_eval_mode_and_without_gradients_always(dataset, machine, live):
    before = {name: value.clone() for name, value in live.network.state_dict().items()}
    live.network.train()  # as a caller might leave it
    trained(dataset, machine, live)
    for network in (live.network, live.frozen):
        assert not any(module.training for module in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in live.network.state_dict().items())


def test_validation_picks_the_epoch_and_both_are_written_down(dataset, machine, live):
    network, rows, about = trained(dataset, machine, live, epochs=4, lr=0.01)
    shares = [row["val_accuracy"] for row in rows]
    assert about["best_val_accuracy"] == max(shares) and about["last_val_accuracy"] == shares[-1]
    assert shares[about["best_epoch"] - 1] == max(shares)
    from kd.evaluation.metrics import accuracy
    from kd.evaluation.predict import predict

    logits = predict(network, Loader(dataset, 16, 0, CPU, augment=AUGMENT).eval_batches(dataset.val), machine)
    assert accuracy(logits, dataset.targets[dataset.val]) == max(shares)


@pytest.mark.parametrize("measure", ["balanced_accuracy", "macro_f1"])
def test_validation_picks_by_the_measure_that_is_set(dataset, machine, measure):
    from kd.evaluation.metrics import PICKS, accuracy
    from kd.evaluation.predict import predict

    rare = np.flatnonzero((dataset.targets[dataset.val] != 1) & (np.arange(len(dataset.val)) % 4 > 0))
    unequal = replace(dataset, val=np.delete(dataset.val, rare))
    network, rows, loader = student(unequal, dropout=0), [], Loader(unequal, 16, 0, CPU, augment=AUGMENT)
    how = {"stage": "student", "pick_by": measure, "log": rows.append}
    about = fit(network, Objective({"hard": CrossEntropy()}, {"hard": 1.0}), loader, Recipe(6, lr=0.02), machine, **how)
    found, targets = [row[f"val_{measure}"] for row in rows], unequal.targets[unequal.val]
    assert about["picked_by"] == measure and about[f"best_val_{measure}"] == max(found) != found[-1]
    assert about["best_epoch"] == 6 - found[::-1].index(max(found)) and about[f"last_val_{measure}"] == found[-1]
    assert about["best_val_accuracy"] == rows[about["best_epoch"] - 1]["val_accuracy"]
    logits = predict(network, loader.eval_batches(unequal.val), machine)
    assert (PICKS[measure](logits, targets), accuracy(logits, targets)) == (max(found), about["best_val_accuracy"])
    assert PICKS[measure](logits, targets) != accuracy(logits, targets)


def test_weights_of_labels_are_the_same_in_micro_batches():
    """The mean is over images: a mean over weights would differ between micro-batches."""
    weight = torch.tensor([4.0, 1.0, 0.5, 0.5, 0.25, 0.25])
    logits, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6
    mixed = {"mixup_target": (target + 2) % 6, "mixup_lam": torch.linspace(0.5, 1, 8)}
    for more in ({}, mixed):
        term = CrossEntropy(0.1)
        batch = Batch(None, target, None, class_weight=weight, **more)
        whole = term(Outputs(logits), None, batch)
        parts = [
            term(
                Outputs(logits[rows]),
                None,
                batch._replace(target=target[rows], **{k: v[rows] for k, v in more.items()}),
            )
            for rows in (slice(0, 4), slice(4, 8))
        ]
        torch.testing.assert_close(whole, sum(parts) / 2)
        alike = term(Outputs(logits), None, batch._replace(class_weight=torch.ones(6)))
        torch.testing.assert_close(alike, term(Outputs(logits), None, batch._replace(class_weight=None)))
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    own = CrossEntropy()(Outputs(logits), None, Batch(None, target, None, class_weight=weight))
    torch.testing.assert_close(own, (weight[target] * each).mean())


def test_a_nan_loss_names_term_epoch_step_and_rate(dataset, machine):
    class Spoilt(CrossEntropy):
        calls = 0

        def forward(self, student, teacher, batch):
            self.calls += 1
            return super().forward(student, teacher, batch) * (float("nan") if self.calls == 9 else 1)

    objective = Objective({"good": CrossEntropy(), "spoilt": Spoilt()}, {"good": 1.0, "spoilt": 1.0})
    loader = Loader(dataset, 16, 0, CPU, augment=AUGMENT)
    with pytest.raises(
        NonFiniteLoss,
        match=r"student: spoilt is not finite at epoch 2, step 3, learning rate 0\.0.* the cause is the term",
    ):
        fit(student(dataset), objective, loader, Recipe(3), machine, stage="student")


def test_a_method_with_weights_of_its_own_learns_them(dataset, machine, live):
    class Adapter(nn.Module):
        needs = frozenset({"features"})

        def setup(self, student, teacher):
            self.map = nn.Conv2d(student.features[-1].shape[1], teacher.features[-1].shape[1], 1)

        def forward(self, student, teacher, batch):
            return (self.map(student.features[-1]) - teacher.features[-1]).pow(2).mean()

    term = Adapter()
    objective = Objective({"hint": term}, {"hint": 1.0})
    network = student(dataset)
    names = set(network.state_dict())
    fit(
        network,
        objective,
        Loader(dataset, 16, 0, CPU, augment=AUGMENT),
        Recipe(1),
        machine,
        stage="student",
        teacher=live,
    )
    torch.manual_seed(0)
    assert term.map.weight.abs().sum() > 0 and set(network.state_dict()) == names
    with pytest.raises(ValueError, match="reads features too"):
        teacher_factory("cached", objective.needs, 1)


def test_a_slice_of_a_batch_equals_that_part_of_the_batch(dataset):
    loader = Loader(dataset, 33, 0, CPU, augment=AUGMENT)
    parts = [list(loader.epoch(2, lambda batch, rank=rank: np.array_split(batch, 3)[rank])) for rank in range(3)]
    for whole, *slices in zip(loader.epoch(2), *parts, strict=True):
        assert torch.equal(whole.index, torch.cat([part.index for part in slices]))
        assert torch.equal(whole.image, torch.cat([part.image for part in slices]))
    assert Loader(dataset, 10_000, 0, CPU, augment=AUGMENT).batch_size == len(dataset.train)


def test_the_schedule_rises_and_falls():
    rates = [warmup_cosine(p / 100, warmup=0.1) for p in range(101)]
    assert rates[0] == 0 and rates[10] == pytest.approx(1) and rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert warmup_cosine(0.55, 0.1) == pytest.approx(0.5)


def test_the_weight_of_a_term_falls_at_the_end_of_its_window():
    fall = [window(p / 100, 0.2, 0.8, fall=0.4) for p in range(101)]
    assert set(fall[:20]) == {0} and set(fall[20:41]) == {1} and set(fall[80:]) == {0}
    assert fall[60] == pytest.approx(0.5) and fall[40:] == sorted(fall[40:], reverse=True) and fall[79] > 0
    both = [window(p / 100, rise=0.5, fall=1.0) for p in (0, 25, 50, 100)]
    assert both == pytest.approx([0, 0.5 * (0.5 + 0.5**1.5), 0.5, 0])
    for wrong in (-0.1, 0.7):
        with pytest.raises(ValueError, match=r"fall must lie in \[0, 0.6\]"):
            window(0.5, 0.2, 0.8, fall=wrong)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"lr": 0}, {"warmup": 1}, {"ema": 1.5}, {"clip_norm": -1}])
def test_a_recipe_out_of_range_is_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Recipe(**{"epochs": 1, **setting})
