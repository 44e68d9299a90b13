"""The plan of an epoch: batches are those of a loader that computes each batch's views anew, to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kd.data.epoch_plan
from kd.augment.affine import Affine, sampling_grid
from kd.augment.chain import MIXING, Chain
from kd.augment.mixing import DRAWS, mixture
from kd.data.epoch_plan import plan_epoch
from kd.data.loader import Loader
from kd.runtime.rng import random_uniforms

CPU = torch.device("cpu")
AUGMENTS = {
    "none": Affine(),
    "flip": Affine(flip=0.5),
    "shift": Affine(flip=0.5, shift=0.1),
    "zoom": Affine(zoom=0.3),
    "rotate": Affine(flip=0.3, rotate=90),
    "all": Affine(flip=0.5, shift=0.1, zoom=0.2, rotate=15),
}


def views(dataset, augment: Affine, seed: int, epoch: int, positions: np.ndarray) -> torch.Tensor:
    """One batch's views by torch's own functions, as kd computed them before there were plans."""
    image = torch.from_numpy(dataset.images[positions]).permute(0, 3, 1, 2).float().div_(255)
    u = random_uniforms(seed, epoch, torch.from_numpy(positions), 5)
    side = (2 * u - 1).to(torch.float32)
    mirror = torch.where(u[:, 0] < augment.flip, -1.0, 1.0)
    zoom, angle = 1 + augment.zoom * side[:, 1], math.radians(augment.rotate) * side[:, 2]
    if augment.shift or augment.zoom or augment.rotate:
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        across, down = 2 * augment.shift * side[:, 3], 2 * augment.shift * side[:, 4]
        theta = torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down], 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    elif augment.flip:
        image = torch.where((mirror < 0)[:, None, None, None], image.flip(-1), image)
    return image


@pytest.mark.parametrize("balance", ["none", "sample"])
@pytest.mark.parametrize("mixup", [0.0, 0.6])
@pytest.mark.parametrize("name", AUGMENTS)
def test_a_step_slices_what_it_would_compute_itself(dataset, name, mixup, balance):
    augment, seed, epoch, start = AUGMENTS[name], 3, 2, 1
    loader = Loader(dataset, 30, seed, CPU, mixup, 2, balance, [augment])
    order = loader.order(epoch)
    partners = order if balance == "sample" else dataset.train
    for rank in range(2):
        batches = list(loader.epoch(epoch, lambda rows, rank=rank: np.array_split(rows, 2)[rank], start))
        assert len(batches) == 2 * (loader.steps - start)
        for number, batch in enumerate(batches):
            step, micro_batch = divmod(number, 2)
            whole = np.array_split(order.reshape(-1, 30)[start + step], 2)[micro_batch]
            own = np.array_split(whole, 2)[rank]
            image = views(dataset, augment, seed, epoch, own)
            if mixup:
                uniforms = random_uniforms(seed, epoch, torch.from_numpy(own), DRAWS, MIXING)
                rows, weight, _ = mixture(mixup, 0.0, uniforms, len(partners), loader.chain.size)
                partner, share = partners[rows.numpy()], weight[:, None, None, None]
                image = share * image + (1 - share) * views(dataset, augment, seed, epoch, partner)
                assert torch.equal(batch.mixup_lam, weight)
                assert torch.equal(batch.mixup_target, torch.from_numpy(dataset.targets[partner]))
            assert torch.equal(batch.image, image)
            assert batch.index.tolist() == own.tolist() and batch.target.tolist() == dataset.targets[own].tolist()


@pytest.mark.parametrize("size", [8, 15, 28, 48, 65])
@pytest.mark.parametrize(
    "augment", [AUGMENTS["shift"], AUGMENTS["zoom"], AUGMENTS["all"]], ids=["shift", "zoom", "all"]
)
def test_places_are_those_of_torch(augment, size):
    for count in (1, 2, 7, 64):
        parameters = augment.parameters(random_uniforms(5, 1, torch.arange(count), augment.draws), size)
        theta = parameters[:, :6].reshape(-1, 2, 3)
        expected = F.affine_grid(theta, [count, 3, size, size + 3], align_corners=False)
        assert torch.equal(sampling_grid(parameters, size, size + 3, turned=augment.rotate > 0), expected)


def test_a_large_epoch_is_computed_in_parts(monkeypatch):
    order, targets = np.random.default_rng(0).permutation(500), np.arange(500) % 7
    arguments = order, targets, [Chain([AUGMENTS["all"]], 16, 16)], 1, 4, CPU, 0.4, 0.4, order
    whole = plan_epoch(*arguments)
    monkeypatch.setattr(kd.data.epoch_plan, "ROWS", 64)
    parts = plan_epoch(*arguments)
    assert torch.equal(whole.views[0].device, parts.views[0].device) and torch.equal(whole.weight, parts.weight)
    assert torch.equal(whole.partner.views[0].host, parts.partner.views[0].host)
    assert torch.equal(whole.box, parts.box) and whole.box.any()
    assert torch.equal(whole.partner.index, parts.partner.index)
