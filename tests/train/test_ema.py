"""The moving average of weights: the published rule to the bit, whole numbers copied, resumed from a checkpoint."""

from __future__ import annotations

import copy

import torch
from torch import nn

from kd.train.ema import ModelEma


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Conv2d(7, 2, 1))


def move(model: nn.Module) -> None:
    """Change all weights and statistics, in place, as a step does."""
    with torch.no_grad():
        model(torch.randn(4, 3, 8, 8))
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_it_is_the_average_of_each_tensor_to_the_bit():
    model = network(0)
    ema, expected = ModelEma(model, 0.9), copy.deepcopy(model.state_dict())
    for step in range(1, 12):
        move(model)
        ema.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, new in model.state_dict().items():
            expected[name] = expected[name].lerp(new, 1 - decay) if new.is_floating_point() else new.clone()
    found = ema.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert found["1.num_batches_tracked"] == 11 and not torch.equal(found["0.weight"], model[0].weight)


def test_it_continues_from_a_checkpoint():
    model = network(0)
    whole = ModelEma(model, 0.9)
    move(model)
    whole.update(model)
    saved = copy.deepcopy(whole.network.state_dict())
    other = network(1)
    resumed = ModelEma(other, 0.9)
    resumed.update(other)  # lists its tensors before the checkpoint is read
    other.load_state_dict(model.state_dict())
    resumed.network.load_state_dict(saved)
    resumed.steps = whole.steps
    move(model)
    other.load_state_dict(model.state_dict())
    for ema, trained in ((whole, model), (resumed, other)):
        ema.update(trained)
    both = zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in both)
