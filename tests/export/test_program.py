"""``student.pt2``: any batch, the same logits, a description, and no trace of the machine that wrote it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import kd
from kd.export.program import DESCRIPTION, to_program, write_program
from kd.inference.description import Description
from tests.export.students import CLASSES, images, student


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("program") / "student.pt2", student()
    write_program(to_program(model.network, 32), path, model.description)
    return path, model


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_program_takes_any_number_of_images(written, count):
    path, model = written
    network = torch.export.load(path).module()
    some = images(count, 32)
    assert torch.allclose(network(some), model(some), atol=1e-6)


def test_a_program_describes_itself(written):
    path, model = written
    extra = {DESCRIPTION: ""}
    torch.export.load(path, extra_files=extra)
    found = Description.from_metadata(json.loads(extra[DESCRIPTION]), "student.pt2")
    assert found == model.description and found.classes == CLASSES


def test_a_program_names_no_path_of_this_machine(written):
    with zipfile.ZipFile(written[0]) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for place in (str(Path(kd.__file__).parents[1]), os.path.expanduser("~"), os.path.dirname(torch.__file__)):
        assert place in ("/", "") or place.encode() not in content


class Odd(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_a_network_that_decides_by_its_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="torch.export cannot write this network as a program: ") as caught:
        to_program(Odd(), 8)
    assert "\n" not in str(caught.value)
