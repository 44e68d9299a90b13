"""The folder of the page: whole, replaced as a whole, its images lossless."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kd.export.page import pick_examples, write_page
from kd.inference.preprocess import shown


def test_writing_again_replaces_the_page_and_leaves_nothing_beside(page, trained, runtime):
    (page / "of-before.txt").write_text("")
    before = (page / "page.json").read_bytes()
    description = trained.student.description
    examples = pick_examples(trained.dataset, trained.predictions, description.key)
    assert write_page(page.parent, description, examples, runtime) == page
    assert not (page / "of-before.txt").exists() and (page / "page.json").read_bytes() == before
    assert {path.name for path in page.parent.iterdir()} == {"student.onnx", "page"}
    size = sum(path.stat().st_size for path in page.iterdir())
    assert 14e6 < size < 15e6 + (page / "student.onnx").stat().st_size


def test_examples_are_lossless(page, trained):
    data = json.loads((page / "page.json").read_text())
    kept = [np.asarray(Image.open(page / example["image"])) for example in data["examples"]]
    examples = pick_examples(trained.dataset, trained.predictions, trained.student.description.key)
    assert np.array_equal(np.stack(kept), examples.images)
    images = shown(np.stack(kept), trained.student.description)
    assert torch.allclose(trained.student(images), torch.tensor(examples.logits["student"]), atol=1e-4)


def test_without_the_network_s_file_nothing_is_written(tmp_path, trained, runtime):
    with pytest.raises(ValueError, match=r"student.onnx is missing.*export it first"):
        write_page(tmp_path, trained.student.description, None, runtime)
    assert not list(tmp_path.iterdir())
