"""Every option of the group ``augment``, found by its yaml, keeps the contract of ``kd/augment/chain.py``."""

from __future__ import annotations

import pytest
import torch

from kd.augment.chain import Chain, Drawn
from kd.build import build_augment
from tests.augment.reference import images, unit
from tests.conftest import compose, options

STORED, SIZE = 40, 32
CHAINS = [pytest.param(name, size, id=f"{name}-{size}") for name in options("augment") for size in (SIZE, 31)]


def chain_of(name: str, size: int = SIZE) -> Chain:
    return Chain(build_augment(compose(f"augment={name}")), STORED, size)


def batch(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Return stored images [count, 3, STORED, STORED] and the index of each."""
    return unit(images(STORED)).repeat(-(-count // 5), 1, 1, 1)[:count], torch.arange(count) + 100


@pytest.mark.parametrize(("name", "size"), CHAINS)
def test_views_are_images_of_the_size_in_0_to_1(name, size):
    chain, (image, index) = chain_of(name, size), batch()
    before = image.clone()
    views = chain(image, 0, 1, index)
    assert torch.equal(image, before)  # nothing is changed in place
    assert views.shape == (20, 3, size, size) and views.dtype == torch.float32
    assert views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize("name", options("augment"))
def test_steps_do_not_change_what_they_get(name):
    """Each step alone: after a step that copies, a chain does not show it."""
    for step in build_augment(compose(f"augment={name}")):
        image, _ = batch()
        image = image if step.resizes else image[..., :SIZE, :SIZE].contiguous()
        u = torch.rand(len(image), step.draws, dtype=torch.float64, generator=torch.manual_seed(0))
        drawn = step.parameters(u, image.shape[-1])
        assert drawn.dtype == torch.float32 and drawn.device.type == "cpu" and drawn.isfinite().all()
        given = image.clone(), drawn.clone(), drawn.clone()
        view = step.apply(*given, SIZE)
        assert torch.equal(given[0], image) and torch.equal(given[1], drawn) and torch.equal(given[2], drawn)
        assert view.shape[-2:] == (SIZE, SIZE) and view.min() >= 0 and view.max() <= 1


@pytest.mark.parametrize("name", options("augment"))
def test_a_row_alone_is_the_row_in_a_batch_to_the_bit(name):
    chain, (image, index) = chain_of(name), batch(60)
    together = chain(image, 3, 2, index)
    order = torch.randperm(60, generator=torch.manual_seed(0))
    assert torch.equal(chain(image[order], 3, 2, index[order]), together[order])
    for row in range(60):
        assert torch.equal(chain(image[row : row + 1], 3, 2, index[row : row + 1])[0], together[row]), row


@pytest.mark.parametrize("name", options("augment"))
def test_a_batch_may_be_empty(name):
    """With several processes a micro-batch may leave one of them nothing."""
    chain, (image, index) = chain_of(name), batch(0)
    assert chain(image, 0, 1, index).shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("name", options("augment"))
def test_grey_images_and_channels_last_images_give_the_same_views(name):
    """Data sets of one channel are expanded without a copy, and all images lie channels-last in memory."""
    chain, (image, index) = chain_of(name), batch()
    last = image.contiguous(memory_format=torch.channels_last)
    assert torch.equal(chain(last, 0, 1, index), chain(image, 0, 1, index))
    grey = image[:, :1].contiguous()
    expanded = chain(grey.expand(-1, 3, -1, -1), 0, 1, index)
    assert torch.equal(expanded, chain(grey.repeat(1, 3, 1, 1), 0, 1, index))


@pytest.mark.parametrize("name", [name for name in options("augment") if name != "none"])
def test_seed_epoch_index_and_view_make_other_views(name):
    chain, (image, _) = chain_of(name), batch(1)
    image, index = image.expand(32, -1, -1, -1), torch.arange(32)
    first = chain(image, 0, 1, index)
    for other in (chain(image, 1, 1, index), chain(image, 0, 2, index), chain(image, 0, 1, index, view=1)):
        assert ((other - first).abs().flatten(1).amax(1) > 0).float().mean() > 0.4
    assert ((first[1:] - first[:-1]).abs().flatten(1).amax(1) > 0).float().mean() > 0.4


@pytest.mark.parametrize("name", options("augment"))
def test_decisions_are_taken_from_the_copy_on_the_host(name):
    """On tensors without data nothing can be read, so a step that decides by its device's numbers fails."""
    chain, (image, index) = chain_of(name), batch()
    host = chain.parameters(0, 1, index)
    views = chain.apply(image.to("meta"), Drawn(host, host.to("meta")))
    assert views.shape == (20, 3, SIZE, SIZE) and views.device.type == "meta"
