"""A torch.export program as a teacher: the same logits, no maps, and loaded only if the user trusts it."""

from __future__ import annotations

import io
import logging
import os
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from kd.evaluation.cost import macs, params
from kd.interfaces import extract_outputs
from kd.models.exported import Exported
from kd.models.normalized import Normalized
from kd.models.weights import load_external
from tests.fake_device import FakeDevice
from tests.models.programs import CLASSES, PROGRAMS, SIZE


class Named(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image)


def saved(path: Path, network: nn.Module, open_batch: bool = True, most: int | None = None, training=False) -> Path:
    shape = {"image": {0: torch.export.Dim("batch", max=most)}} if open_batch else None
    image = torch.zeros(2, 3, SIZE, SIZE)
    torch.export.save(torch.export.export(Named(network).train(training), (image,), dynamic_shapes=shape), path)
    return path


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    """Return a network without maps [B, C, H, W], which no feature method and no attention takes."""
    torch.manual_seed(0)
    kind = {"img_size": SIZE, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **kind).eval()


@pytest.fixture(scope="module")
def program(tmp_path_factory, transformer) -> Path:
    return saved(tmp_path_factory.mktemp("programs") / "vit.pt2", transformer)


def black_box(path: Path, size: int = SIZE, classes: int = CLASSES, trusted: bool = True) -> Normalized:
    network = Normalized(Exported(classes, size, trusted), (0.0,) * 3, (1.0,) * 3)
    load_external(network, path)
    return network


def test_it_answers_as_the_network_does_and_shows_nothing_else(program, transformer):
    image = torch.rand(5, 3, SIZE, SIZE)
    network = black_box(program).train().eval().requires_grad_(False)
    shown = extract_outputs(network, image, {"features", "class_maps", "embedding"})
    torch.testing.assert_close(shown.logits, transformer(image), rtol=0, atol=1e-6)
    assert shown.features == () and shown.embedding is None and shown.class_maps is None


def test_it_costs_what_the_network_costs(program, transformer):
    network = black_box(program)
    assert params(network) == params(transformer) and macs(network, SIZE) == macs(transformer, SIZE) > 1e5


def test_programs_for_other_data_are_refused(program, tmp_path):
    with pytest.raises(ValueError, match=r"does not take images \[B, 3, 24, 24\]"):
        black_box(program, size=24)
    with pytest.raises(
        ValueError, match=r"returns \[3, 6\] for 3 images; the data has 10 classes, so it must return logits \[3, 10\]"
    ):
        black_box(program, classes=10)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    fixed = saved(tmp_path / "fixed.pt2", pool, open_batch=False)
    with pytest.raises(ValueError, match="with a dynamic batch size"):
        black_box(fixed)


class Harm:
    """Makes a folder when it is unpickled, in place of any code that a stranger's file could run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_program_is_code_and_is_not_loaded_without_trust(program, tmp_path):
    hostile, harm, pickled = tmp_path / "hostile.pt2", tmp_path / "harm", io.BytesIO()
    torch.save({"args": Harm(harm)}, pickled)
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled.getvalue() if name.endswith("sample_inputs/model.pt") else old.read(name))
    with pytest.raises(ValueError, match="may run any code.* set teacher.trusted=true"):
        black_box(hostile, trusted=False)
    assert not harm.exists()
    with pytest.raises(ValueError, match="is not a program"):
        black_box(hostile)
    assert harm.exists(), "torch unpickles its contents: that is why it must be trusted"


def test_a_program_that_was_exported_while_it_trained_is_refused(tmp_path):
    pool = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    with pytest.raises(ValueError, match="exported in train mode. Export network.eval()"):
        black_box(saved(tmp_path / "train.pt2", pool, training=True))


def test_a_program_whose_weights_are_not_finite_is_refused(tmp_path):
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    nn.init.constant_(pool[2].weight, torch.nan)
    with pytest.raises(ValueError, match="returns logits that are NaN or infinite"):
        black_box(saved(tmp_path / "nan.pt2", pool))


def test_a_batch_that_is_open_to_a_few_images_only_is_refused(tmp_path):
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    with pytest.raises(ValueError, match="takes 8 images at most; Export it .* with a dynamic batch size"):
        black_box(saved(tmp_path / "few.pt2", pool, most=8))


class Placed(nn.Module):
    """Makes a tensor on the device of its input, as position codes do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, CLASSES)

    def forward(self, image):
        return self.linear(image.mean((2, 3)) + torch.arange(3, device=image.device))


def test_the_graph_goes_where_the_weights_go(tmp_path):
    network = black_box(saved(tmp_path / "placed.pt2", Placed())).to("meta")
    assert network(torch.rand(2, 3, SIZE, SIZE, device="meta")).device.type == "meta"


def test_each_program_costs_what_it_costs(program, tmp_path, monkeypatch):
    from tests.pipeline.test_run import run

    monkeypatch.setattr("kd.evaluation.latency.MAX_WAITED_SHARE", 1e9)  # keep the measurement on a busy machine too
    monkeypatch.setattr("kd.evaluation.latency.MAX_SHARE_OF_OTHERS", 1e9)

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    small, how = saved(tmp_path / "small.pt2", pool), ["teacher=exported", "teacher.trusted=true", "report=false"]
    counts = []
    for path in (program, small):
        _, result = run(tmp_path / "a", *how, f"teacher.checkpoint={path}", "baseline=false", "latency.seconds=0")
        counts.append(result["teacher"]["params"])
    assert counts[1] == 3 * CLASSES + CLASSES < counts[0]


@contextmanager
def seen(caplog):
    """Fail if torch logs a warning; its logger does not propagate to pytest's handler."""
    logging.getLogger("torch").addHandler(caplog.handler)
    yield
    logging.getLogger("torch").removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.filterwarnings("ignore::FutureWarning", "error::UserWarning")
def test_an_error_names_the_kind_of_a_file_that_is_not_a_program(program, tmp_path, caplog):
    (tmp_path / "a.pt2").write_bytes(b"not even a zip")
    (tmp_path / "cut.pt2").write_bytes(program.read_bytes()[:-100])
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pt2")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "c.pt")
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(tmp_path / "damaged.pt2", "w") as new:
        for name in old.namelist():
            if not name.endswith("weight_0"):
                new.writestr(name, old.read(name))
    for name, says in {
        "a.pt2": "it is not a zip file of torch",
        "cut.pt2": "it is not a zip file of torch",
        "b.pt2": "it holds tensors, .*\nFor weights name their network",
        "c.pt": "it is a TorchScript archive\nExport the original network",
        "damaged.pt2": ".*weight_0",
    }.items():
        wanted = f"{name} is not a program of torch.export.save: {says}"
        with seen(caplog), pytest.raises(ValueError, match=wanted) as caught:
            black_box(tmp_path / name)
        assert len(str(caught.value).splitlines()) <= 2


def test_a_program_is_known_by_what_is_in_it(program, transformer, tmp_path, caplog):
    other = tmp_path / "prog.pt"
    other.write_bytes(program.read_bytes())
    image = torch.rand(2, 3, SIZE, SIZE)
    with seen(caplog):
        torch.testing.assert_close(black_box(other)(image), transformer(image), rtol=0, atol=1e-6)
    network = Normalized(nn.Linear(2, 2), (0.0,) * 3, (1.0,) * 3)
    for path in (program, other):
        with pytest.raises(ValueError, match="is a program, not weights: use teacher=exported teacher.checkpoint="):
            load_external(network, path)


def test_a_whole_run_learns_from_it_live_or_from_cached_logits(program, tmp_path):
    from tests.pipeline.test_run import run

    how = ["teacher=exported", f"teacher.checkpoint={program}", "teacher.trusted=true", "report=false"]
    (folder, result), (_, live) = run(tmp_path / "a", *how), run(tmp_path / "b", *how, "teacher.source=live")
    assert result["teacher"]["training"]["epochs"] == 0 and result["teacher"]["params"] < 50_000
    assert result["student"]["accuracy"] == live["student"]["accuracy"]
    assert np.load(folder / "predictions.npz")["teacher"].shape[1] == CLASSES
    with pytest.raises(ValueError, match="the teacher shows none"):
        run(tmp_path / "a", *how, "kd=at")
    for wrong, says in {
        "teacher=exported": "teacher.checkpoint",
        "teacher.ensemble=[exported,resnet18]": "requires checkpoint: use {teacher: exported, checkpoint: ...}",
        "kd=takd kd.assistants=[exported]": "is already trained, but the run trains every network of this list itself",
    }.items():
        with pytest.raises(Exception, match=re.escape(says)):
            run(tmp_path / "a", *wrong.split())
    with pytest.raises(ValueError, match="attention"):
        run(tmp_path / "a", *how, "attention=se")


def test_the_run_is_named_by_the_program_and_not_by_its_path(program, tmp_path):
    from tests.pipeline.test_keys import keys

    copy, other = tmp_path / "copy.pt2", tmp_path / "other.pt2"
    copy.write_bytes(program.read_bytes())
    other.write_bytes(program.read_bytes() + b" ")
    one, same, another = (keys("teacher=exported", f"teacher.checkpoint={p}")["run"] for p in (program, copy, other))
    assert one == same != another


@pytest.mark.parametrize("kind", ["cuda", "meta"])
@pytest.mark.parametrize("made", PROGRAMS, ids=lambda made: made.__name__)
def test_the_constants_of_a_program_move_with_it(made, kind, tmp_path):
    """torch leaves them, and the devices that the graph names, where the program was exported."""
    torch.manual_seed(0)
    network = made().eval()
    image = torch.rand(3, 3, SIZE, SIZE)
    box = black_box(saved(tmp_path / "made.pt2", network)).eval()
    with torch.no_grad():
        torch.testing.assert_close(box(image), network(image))
        torch.testing.assert_close(box.to("cpu")(image), network(image))
    there = FakeDevice(kind)
    there.move(box)
    watch = there.run(lambda: box(torch.rand(3, 3, SIZE, SIZE, device=kind)))
    assert not watch.found and not watch.arrived
