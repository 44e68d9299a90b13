"""Training views: what the networks of a run say of training images as an epoch showed them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.augment.flip import Flip
from kd.data.dataset import Unlabelled
from kd.data.loader import Loader
from kd.evaluation.predict import predict_views
from kd.models.tiny_cnn import TinyCNN


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TinyCNN(6, 16, width=0.25)


def test_the_views_are_those_of_the_epoch(dataset, network, machine):
    loader = Loader(dataset, 32, 3, machine.device, augment=[Flip(0.5)])
    found = predict_views({"student": network}, loader, 2, machine, most=40)
    shown = list(loader.epoch(2))
    index, image = torch.cat([batch.index for batch in shown])[:40], torch.cat([batch.image for batch in shown])[:40]
    np.testing.assert_array_equal(found["index"], index)
    np.testing.assert_array_equal(found["target"], dataset.targets[index])
    with torch.no_grad():
        np.testing.assert_allclose(found["student"], network.eval()(image), atol=1e-5)
    whole = predict_views({"student": network}, loader, 2, machine, most=10**6)
    assert len(whole["index"]) == loader.shown and found["student"].dtype == np.float32


def test_of_several_views_the_first_counts_and_an_image_without_a_label_has_none(dataset, network, machine):
    extra = replace(dataset, unlabelled=Unlabelled(dataset.images[dataset.test], "a fingerprint"))
    loader = Loader(extra, 32, 0, machine.device, augment=[Flip(0.5)]).with_seed(1, views=2, unlabelled=True)
    found = predict_views({"student": network}, loader, 1, machine, most=10**6)
    count = len(dataset.targets)
    assert len(found["index"]) == len(np.unique(found["index"])) == loader.shown
    np.testing.assert_array_equal(found["target"] == -1, found["index"] >= count)
    first = next(loader.epoch(1))
    with torch.no_grad():
        expected = network.eval()(first.image.chunk(2)[0])
    np.testing.assert_allclose(found["student"][:32], expected, atol=1e-5)


def test_of_two_mixed_images_the_larger_part_has_the_label(dataset, network, machine):
    loader = Loader(dataset, 32, 0, machine.device, cutmix=1.0)
    found = predict_views({"student": network}, loader, 1, machine, most=32)
    batch = next(loader.epoch(1))
    larger = np.where(batch.mixup_lam >= 0.5, batch.target, batch.mixup_target)
    np.testing.assert_array_equal(found["target"], larger)
    assert (larger != batch.target.numpy()).any()
