"""A torch.export program as a teacher: the same answers, no maps, no pickle of it ever opened."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from kd.interfaces import observe
from kd.measure import macs, params
from kd.models.exported import Exported
from kd.models.normalized import Normalized
from kd.stages import take

CLASSES, SIZE = 6, 16


class Named(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image)


def saved(path: Path, network: nn.Module, size: int = SIZE, open_batch: bool = True) -> Path:
    shape = {"image": {0: torch.export.Dim("batch")}} if open_batch else None
    image = torch.zeros(2, 3, size, size)
    torch.export.save(torch.export.export(Named(network).eval(), (image,), dynamic_shapes=shape), path)
    return path


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    """What no feature method and no attention could take."""
    torch.manual_seed(0)
    kind = {"img_size": SIZE, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **kind).eval()


@pytest.fixture(scope="module")
def program(tmp_path_factory, transformer) -> Path:
    return saved(tmp_path_factory.mktemp("programs") / "vit.pt2", transformer)


def black_box(path: Path, size: int = SIZE, classes: int = CLASSES) -> Normalized:
    network = Normalized(Exported(classes, size), (0.0,) * 3, (1.0,) * 3)
    take(network, path)
    return network


def test_it_answers_as_the_network_does_and_shows_nothing_else(program, transformer):
    image = torch.rand(5, 3, SIZE, SIZE)
    network = black_box(program).train().eval().requires_grad_(False)
    shown = observe(network, image, {"features", "class_maps", "embedding"})
    torch.testing.assert_close(shown.logits, transformer(image), rtol=0, atol=1e-6)
    assert shown.features == () and shown.embedding is None and shown.class_maps is None


def test_it_costs_what_the_network_costs(program, transformer):
    network = black_box(program)
    assert params(network) == params(transformer) and macs(network, SIZE) == macs(transformer, SIZE) > 1e5


def test_programs_for_other_data_are_refused(program, tmp_path):
    with pytest.raises(ValueError, match=r"does not take \[1, 3, 24, 24\]"):
        black_box(program, size=24)
    with pytest.raises(
        ValueError, match=r"answers 1 images with \[1, 6\]; the data's 10 classes want logits \[1, 10\]"
    ):
        black_box(program, classes=10)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    fixed = saved(tmp_path / "fixed.pt2", pool, open_batch=False)
    with pytest.raises(ValueError, match="with the batch left open"):
        black_box(fixed)


def rewritten(program: Path, path: Path, change) -> Path:
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


class Harm:
    """Unpickled, it makes a folder: what a stranger's file would do is up to the stranger."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["weights", "constants", "custom", "opaque", "inputs"])
def test_a_pickle_inside_is_never_opened(program, tmp_path, place):
    harm = tmp_path / "harm"
    buffer = io.BytesIO()
    torch.save({"args": Harm(harm)}, buffer)

    def change(name: str, content: bytes) -> bytes:
        if place == "inputs":
            return buffer.getvalue() if name.endswith("sample_inputs/model.pt") else content
        kind = "weights" if place == "weights" else "constants"
        if name.endswith(f"model_{kind}_config.json"):
            config = json.loads(content)
            entry = next(iter(config["config"].values()), {"is_param": False, "tensor_meta": None})
            prefix = {"custom": "custom_obj_0", "opaque": "opaque_obj_0"}.get(place, "weight_0")
            config["config"]["x"] = {**entry, "path_name": prefix, "use_pickle": place in ("weights", "constants")}
            return json.dumps(config).encode()
        return content

    torn = rewritten(program, tmp_path / "torn.pt2", change)
    with pytest.raises(ValueError, match="was not read: it carries a pickle, which could run code"):
        black_box(torn)
    assert not harm.exists()


def test_what_is_no_program_is_told_so(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"not even a zip")
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pt2")
    for name in ("a.pt2", "b.pt2"):
        with pytest.raises(ValueError, match=f"{name} is no program"):
            black_box(tmp_path / name)
    network = Normalized(nn.Linear(2, 2), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(ValueError, match="say teacher=exported teacher.checkpoint="):
        take(network, tmp_path / "a.pt2")


def test_a_whole_run_is_taught_by_it_from_its_bank_or_live(program, tmp_path):
    from tests.test_run import run

    how = ["teacher=exported", f"teacher.checkpoint={program}", "report=false"]
    (folder, result), (_, live) = run(tmp_path / "a", *how), run(tmp_path / "b", *how, "teacher.source=live")
    assert result["teacher"]["training"]["epochs"] == 0 and result["teacher"]["params"] < 50_000
    assert result["student"]["accuracy"] == live["student"]["accuracy"]
    assert np.load(folder / "predictions.npz")["teacher"].shape[1] == CLASSES
    with pytest.raises(ValueError, match="the teacher shows none"):
        run(tmp_path / "a", *how, "kd=at")
    with pytest.raises(FileNotFoundError, match="say which, teacher.checkpoint=model.pt2"):
        run(tmp_path / "a", "teacher=exported")
    with pytest.raises(ValueError, match="attention"):
        run(tmp_path / "a", *how, "attention=se")


def test_the_run_is_named_by_the_program_and_not_by_its_path(program, tmp_path):
    from tests.test_plan import keys

    copy, other = tmp_path / "copy.pt2", tmp_path / "other.pt2"
    copy.write_bytes(program.read_bytes())
    other.write_bytes(program.read_bytes() + b" ")
    one, same, another = (keys("teacher=exported", f"teacher.checkpoint={p}")["run"] for p in (program, copy, other))
    assert one == same != another
