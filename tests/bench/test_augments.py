"""The speed of augmentations: a short real run, and wrong arguments."""

from __future__ import annotations

import json

import pytest

from kd.bench.__main__ import main
from tests.conftest import options

SMALL = ["--image-size=16", "--stored-size=20", "--batch-size=4", "--rounds=2", "--device=cpu"]


def test_every_option_is_measured_in_every_round(capsys):
    assert main(["augments", *SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["images_per_s"]) == list(found["draw_us"]) == options("augment")
    assert all(len(rates) == 2 and min(rates) > 0 for rates in found["images_per_s"].values())
    assert found["setting"] == {"image_size": 16, "stored_size": 20, "batch_size": 4, "rounds": 2}


def test_chosen_options_are_a_table(capsys):
    assert main(["augments", "none", "trivial", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("|")][2:] == ["none", "trivial"]
    assert "views 16×16" in lines[0] and "load" in lines[0]


def test_an_unknown_option_is_named(capsys):
    assert main(["augments", "trivail", *SMALL]) == 2
    assert "trivail" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["augments", "--rounds=0"])
    assert "--rounds must be 1 or more" in capsys.readouterr().err
