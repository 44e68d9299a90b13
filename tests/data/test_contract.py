"""Promises of every data set, one for each config option of the group ``data``."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kd.build import build_dataset
from kd.store.store import Store
from tests.conftest import compose, options

ROOTED = [option for option in options("data") if "root" in list(compose(f"data={option}").data)]

NAMED = {"torchvision": {"name": "EuroSAT"}, "webdataset": {"urls": "a.tar"}}  # what must be said beside the place


@pytest.mark.parametrize("option", options("data"))
def test_its_config_sets_split_and_views(option):
    cfg = compose(f"data={option}")
    node = cfg.data
    assert 0 < node.val_fraction < 0.5 and node.seed == 0 and node.image_size >= 8
    assert cfg.augment.steps, "its yaml names an option of the group augment"


@pytest.mark.parametrize("option", ROOTED)
def test_a_place_where_it_is_not_is_named_and_nothing_is_fetched(option, tmp_path):
    """The message names the given folder; an error of a library would name something else."""
    nowhere = tmp_path / "nowhere"
    cfg = OmegaConf.merge(compose(f"data={option}"), {"data": {"root": str(nowhere), **NAMED.get(option, {})}})
    with pytest.raises((FileNotFoundError, NotADirectoryError, ValueError)) as caught:
        build_dataset(cfg, Store(tmp_path / "store"))
    assert "nowhere" in str(caught.value) and "data.root" in str(caught.value)


def test_there_is_one_that_needs_no_files():
    assert set(options("data")) - set(ROOTED) == {"scenes"}
