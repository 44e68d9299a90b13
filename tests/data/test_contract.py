"""What every data set promises, found by its yaml."""

from __future__ import annotations

import inspect

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from kd.build import build_dataset
from kd.store.store import Store
from tests.conftest import compose, options

ROOTED = [option for option in options("data") if "root" in list(compose(f"data={option}").data)]


@pytest.mark.parametrize("option", options("data"))
def test_its_page_says_how_it_is_split_and_looked_at(option):
    page = compose(f"data={option}").data
    assert 0 < page.val_fraction < 0.5 and page.seed == 0 and page.image_size >= 8
    assert set(page.augment) - {"_target_"} == set(inspect.signature(get_object(page.augment._target_)).parameters)


@pytest.mark.parametrize("option", ROOTED)
def test_a_place_where_it_is_not_is_named_and_nothing_is_fetched(option, tmp_path):
    """The sentence names what was given; an error of a library would name something else."""
    nowhere = tmp_path / "nowhere"
    cfg = OmegaConf.merge(compose(f"data={option}"), {"data": {"root": str(nowhere)}})
    with pytest.raises(Exception) as caught:  # noqa: B017  Hydra wraps it
        build_dataset(cfg, Store(tmp_path / "store"))
    cause = caught.value.__cause__ or caught.value
    assert isinstance(cause, (FileNotFoundError, NotADirectoryError, ValueError)), repr(cause)
    assert "nowhere" in str(cause) and "data.root" in str(cause)


def test_there_is_one_that_needs_no_files():
    assert set(options("data")) - set(ROOTED) == {"scenes"}
