"""The figure of augmentations: its views are those of a training, and it is drawn for one and for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kd.augment.chain import Chain
from kd.build import build_augment
from kd.data.datasets.scenes.dataset import draw
from kd.report.figures.augments import GRAIN, augment_views
from kd.zoo.__main__ import main
from kd.zoo.augments import IMAGES, SIDE, VIEWS, views_of
from tests.conftest import CONF, compose, options


def test_views_are_those_of_a_training_with_seed_0():
    views = views_of("trivial", 3)
    assert views.shape == (IMAGES, 3, SIDE, SIDE, 3) and views.dtype == np.uint8
    chain = Chain(build_augment(compose("augment=trivial")), SIDE, SIDE)
    image = torch.from_numpy(draw(0, 0, 2, SIDE)).permute(2, 0, 1)[None] / 255
    view = chain(image, 0, 3, torch.tensor([2]))[0].permute(1, 2, 0)
    assert np.abs(views[2, 2] / 255 - view.numpy()).max() <= 0.5 / 255 + 1e-6
    assert (views_of("none", 2) == np.stack([draw(0, 0, k, SIDE) for k in range(IMAGES)])[:, None]).all()


@pytest.mark.parametrize("chosen", [[], ["strong"]])
def test_the_figure_is_written_and_its_name_printed(chosen, tmp_path, capsys):
    file = tmp_path / "views.png"
    assert main(["augments", *chosen, "--figure", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    with Image.open(file) as image:
        assert image.width > 900 and image.height > (300 if chosen else 60 * len(options("augment")))


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_every_view_is_drawn_in_its_place(names):
    """Views of one colour each; the figure has a row for each augmentation, or for each image of the only one."""
    count = VIEWS if len(names) == 1 else VIEWS // IMAGES
    colours = np.random.default_rng(0).integers(0, 256, (len(names), IMAGES, count, 3)).astype(np.uint8)
    views = {
        name: np.broadcast_to(own[:, :, None, None], (IMAGES, count, 8, 8, 3))
        for name, own in zip(names, colours, strict=True)
    }
    figure = augment_views(views)
    (mosaic,) = (image.get_array() for image in figure.axes[0].images)
    white = (mosaic == 255).all(-1)
    rows, columns = (np.flatnonzero(np.diff(np.r_[1, white.all(axis), 1]) < 0) for axis in (1, 0))
    assert len(columns) == VIEWS and len(rows) == (IMAGES if len(names) == 1 else len(names))
    shown = mosaic[rows[:, None], columns].astype(int)
    expected = colours.reshape(len(rows), len(columns), 3).astype(int)
    assert np.abs(shown - expected).max() < GRAIN
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == (names if len(names) > 1 else [""] * IMAGES)


def test_the_figure_of_the_page_is_small():
    assert (CONF.parent / "docs" / "images" / "augments.png").stat().st_size < 400 * 2**10
