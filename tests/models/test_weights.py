"""Checkpoint files of other programs: the weights that load, their names, and errors."""

from __future__ import annotations

import argparse
import json
import os
import struct
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from kd.models.normalized import Normalized
from kd.models.weights import check_checkpoint, load_external
from kd.runtime.user_warnings import KdWarning
from tests.conftest import compose
from tests.pipeline.test_run import run

CLASSES, SIZE = 6, 16


@cache
def option() -> DictConfig:
    return compose("student=resnet8").student


def network(seed: int = 0) -> Normalized:
    torch.manual_seed(seed)
    made = instantiate(option(), num_classes=CLASSES, image_size=SIZE)
    return Normalized(made, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).eval()


def bare(prefix: str = "", seed: int = 1) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in network(seed).network.state_dict().items()}


def renamed(prefix: str, head: str) -> dict[str, torch.Tensor]:
    """Return weights with the classifier under another name."""
    return {name.replace(f"{prefix}fc.", prefix + head): value for name, value in bare(prefix).items()}


def changed(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return bare() | {name.replace("__", "."): value for name, value in tensors.items()}


def as_type(kind: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: value.to(kind) if value.is_floating_point() else value for name, value in bare().items()}


AVERAGED = {"n_averaged": torch.tensor(7), **bare("module.")}
WRITTEN = {
    "plain.pt": lambda path: torch.save(bare(), path),
    "parallel.pth": lambda path: torch.save({"epoch": 240, "model": bare("module."), "best_acc": 72.5}, path),
    "lightning.ckpt": lambda path: torch.save(lightning(), path),
    "timm.pth.tar": lambda path: by_timm(path),
    "best.pth": lambda path: torch.save({"net": bare("module."), "acc": np.float64(93.1), "losses": np.ones(3)}, path),
    "params.pth": lambda path: torch.save({"params": bare(), "lr": np.float32(0.1), "from": path}, path),
    "legacy.pth": lambda path: torch.save({"ema": bare()}, path, _use_new_zipfile_serialization=False),
    "compiled.ckpt": lambda path: torch.save({"state_dict": bare("model._orig_mod.")}, path),
    "module.pt": lambda path: torch.save(bare("module.model."), path),
    "counts.pt": lambda path: torch.save(without_counts("backbone."), path),
    "wrapped.pt": lambda path: torch.save({f"teacher.{n}": v for n, v in network(1).state_dict().items()}, path),
    "safe.pt": lambda path: safetensors.torch.save_file(bare(), path),
    "torch.safetensors": lambda path: torch.save(bare(), path),
    "named.pt2": lambda path: torch.save(bare(), path),
    "tutorial.pt": lambda path: torch.save({"optimizer_state_dict": {"lr": 1}, "model_state_dict": bare()}, path),
    "averaged.pth": lambda path: torch.save({"model_ema": AVERAGED, "lr_scheduler": {"last_epoch": 3}}, path),
    "compiled.pt": lambda path: torch.save(bare("module._orig_mod."), path),
    "ours.safetensors": lambda path: safetensors.torch.save_file(network(1).state_dict(), path),
    "bare.safetensors": lambda path: safetensors.torch.save_file(bare(), path),
    "double.pt": lambda path: torch.save(as_type(torch.float64), path),
}


def without_counts(prefix: str) -> dict[str, torch.Tensor]:
    """Return weights as torch wrote them before 0.4.1."""
    return {name: value for name, value in bare(prefix).items() if not name.endswith("num_batches_tracked")}


def lightning() -> dict[str, object]:
    """Return the checkpoint of a module whose __init__ calls self.model = ... and self.save_hyperparameters()."""
    module = nn.Module()
    module.model = network(1).network
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    return {
        "epoch": 2,
        "global_step": 300,
        "pytorch-lightning_version": "2.5.5",
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3, "completed": 2}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc', 'mode': 'max'}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "data": Path("images"), "more": argparse.Namespace(depth=8)},
    }


def by_timm(path: Path) -> None:
    """Write the checkpoint of timm's training script."""
    trained = network(1).network
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    args = argparse.Namespace(model="resnet8", lr=0.1, data=Path("images"), mean=None, opt_betas=[0.9, 0.999])
    saver = timm.utils.CheckpointSaver(trained, optimizer, args, checkpoint_dir=str(path.parent))
    saver.save_checkpoint(1, metric=np.float64(71.3))
    (path.parent / "last.pth.tar").rename(path)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.filterwarnings("ignore:.*does not say how its input was normalised")
def test_weights_are_taken_under_the_names_that_trainers_give_them(tmp_path, name):
    WRITTEN[name](tmp_path / name)
    taken, image = network(), torch.rand(2, 3, SIZE, SIZE)
    load_external(taken, tmp_path / name)
    assert torch.equal(taken(image), network(1)(image))
    passed = torch.serialization.get_safe_globals()
    assert "StubObject" not in str(passed), "torch.load elsewhere does not accept these classes"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted(tmp_path, kind):
    safetensors.torch.save_file(as_type(kind), tmp_path / "half.safetensors")
    taken = network()
    load_external(taken, tmp_path / "half.safetensors", has_statistics=True)
    assert {value.dtype for value in taken.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(taken.network.fc.weight, network(1).network.fc.weight.to(kind).float())


def test_a_file_that_leaves_something_open_is_taken_with_a_word(tmp_path):
    torch.save({"model": bare(), "model_ema": AVERAGED}, tmp_path / "two.pt")
    with pytest.warns(KdWarning) as caught:
        load_external(network(), tmp_path / "two.pt")
    assert "uses the weights under model; teacher.checkpoint_prefix=model_ema uses those under model_ema" in str(
        caught[0].message
    )
    assert "mean [0.5,0.4,0.3] and std [0.2,0.3,0.4]" in str(caught[1].message)
    torch.save(bare(), tmp_path / "one.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_external(network(), tmp_path / "one.pt", has_statistics=True)


ONE = torch.ones(2)
TRACED = {f"layer1.{n}": ONE[0] for n in ("total_ops", "total_params")}
BESIDE = {  # tensors in a file beside the network, and the warning about them
    "criterion.ckpt": (
        {"state_dict": {**bare("model."), "criterion.weight": ONE}},
        "under model.; left out: criterion.w",
    ),
    "loss.ckpt": (
        {"state_dict": {"loss_fn.pos_weight": ONE, **bare("net.")}},
        "under net.; left out: loss_fn.pos_weight",
    ),
    "metrics.ckpt": (
        {"state_dict": {**bare("model."), "val_acc.tp": ONE, "best.min_value": ONE[0] / 0}},
        "under model.; left out: val_acc.tp, best.min_value",
    ),
    "nested.ckpt": (
        {"state_dict": {**bare("model.module._orig_mod."), "criterion.weight": ONE}},
        "under model.module.; left out: criterion.weight",
    ),
    "compiled.ckpt": (
        {"state_dict": {**bare("_orig_mod.module.model."), "criterion._orig_mod.weight": ONE}},
        "under module.model.; left out: criterion.weight",
    ),
    "statistics.ckpt": (
        {"state_dict": {**bare("model."), "mean": torch.ones(1, 3, 1, 1), "std": torch.ones(1, 3, 1, 1)}},
        "under model.; left out: mean, std",
    ),
    "student.ckpt": (
        {"state_dict": {**bare("teacher."), **{f"student.{n}.weight": ONE for n in range(9)}}},
        r"under teacher.; left out: student.\* \(9\)",
    ),
    "inherited.ckpt": (
        {"state_dict": {**bare(), "criterion.weight": ONE, "val_acc.tp": ONE}},
        "without a prefix; left out: criterion.weight, val_acc.tp",
    ),
    "other_words.ckpt": (
        {"state_dict": {**bare(), "class_weights": torch.ones(6), "ce.weight": torch.ones(6), "confmat.confmat": ONE}},
        "without a prefix; left out: class_weights, ce.weight, confmat.confmat",
    ),
    "traced.pth": ({**bare(), **TRACED}, "without a prefix; left out: layer1.total_ops, layer1.total_params"),
    "loss.pth": ({"net": bare(), "criterion": {"weight": ONE}}, "under net.; left out: criterion.weight"),
    "alias.ckpt": ({"state_dict": {**bare("model."), **bare("best.")}}, r"under model.; left out: best.\* \("),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.filterwarnings("ignore:.*does not say how its input was normalised")
def test_tensors_beside_the_network_are_left_out_with_a_warning_that_names_them(tmp_path, name):
    held, says = BESIDE[name]
    torch.save(held, tmp_path / name)
    taken = network()
    with pytest.warns(KdWarning, match=f"{name}: the network's weights are those {says}"):
        load_external(taken, tmp_path / name)
    with pytest.warns(KdWarning, match=says):
        check_checkpoint(network(), tmp_path / name)  # "best" is infinite: only weights that load must be finite
    assert torch.equal(taken.network.fc.weight, network(1).network.fc.weight)


def other(width: int) -> dict[str, torch.Tensor]:
    """Return the weights of a network with the same names."""
    wide = instantiate(compose("student=resnet8x4").student, num_classes=width, image_size=SIZE)
    return {f"student.{name}": value for name, value in wide.state_dict().items()}


SEVERAL = {
    "both.ckpt": {"state_dict": bare("student.", 2) | bare("teacher.")},
    "averaged.ckpt": {"state_dict": bare("model.", 2) | bare("teacher.module.") | {"teacher.n_averaged": ONE[0]}},
    "bare.ckpt": {"state_dict": bare("", 2) | bare("teacher.")},
    "entries.pth": {"net": bare("module.", 2), "teacher": bare("module.")},
    "timm.pth.tar": {"state_dict": bare("", 2), "state_dict_ema": bare(), "teacher": bare()},
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("prefix", ["teacher", "teacher."])
def test_a_prefix_chooses_one_of_two_networks(tmp_path, name, prefix):
    torch.save(SEVERAL[name], tmp_path / name)
    taken = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_external(taken, tmp_path / name, has_statistics=True, prefix=prefix)
    assert torch.equal(taken.network.fc.weight, network(1).network.fc.weight)


def test_an_error_about_a_prefix_names_the_prefixes_of_the_file(tmp_path):
    torch.save(SEVERAL["bare.ckpt"], tmp_path / "bare.ckpt")
    bare_one = network()
    load_external(bare_one, tmp_path / "bare.ckpt", has_statistics=True, prefix="")
    assert torch.equal(bare_one.network.fc.weight, network(2).network.fc.weight), "the one without a prefix"
    with pytest.raises(
        ValueError, match=r"under no prefix, teacher\.\nChoose one with .*prefix= or teacher.checkpoint_prefix=teach"
    ):
        load_external(network(), tmp_path / "bare.ckpt")
    torch.save(SEVERAL["both.ckpt"], tmp_path / "both.ckpt")
    with pytest.raises(
        ValueError, match=r"prefix=studnt: no name in both.ckpt begins with it; there are student\.\* \(\d+\), te"
    ):
        load_external(network(), tmp_path / "both.ckpt", prefix="studnt")


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_shapes_choose_one_of_two_networks_with_the_same_names(tmp_path):
    torch.save({"state_dict": other(CLASSES) | bare("teacher.")}, tmp_path / "shapes.ckpt")
    taken = network()
    load_external(taken, tmp_path / "shapes.ckpt")
    assert torch.equal(taken.network.fc.weight, network(1).network.fc.weight)


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_a_prefix_is_another_teacher_and_none_leaves_keys_as_they_were(tmp_path):
    torch.save({"state_dict": bare("student.", 2) | bare("teacher.")}, tmp_path / "both.ckpt")
    how = ["teacher=resnet8", f"teacher.checkpoint={tmp_path / 'both.ckpt'}", "report=false", "baseline=false"]
    with pytest.raises(ValueError, match="Choose one with teacher.checkpoint_prefix=student or"):
        run(tmp_path / "a", *how)
    _, one = run(tmp_path / "a", *how, "teacher.checkpoint_prefix=teacher.")
    _, two = run(tmp_path / "a", *how, "teacher.checkpoint_prefix=student")
    assert one["teacher"]["nll"] != two["teacher"]["nll"]
    for folder in (tmp_path / "a" / "teachers").iterdir():
        assert "checkpoint_prefix" in json.loads((folder / "settings.json").read_text())
    with pytest.raises(ValueError, match="checkpoint_prefix is set without a checkpoint"):
        run(tmp_path / "a", "teacher=resnet8", "teacher.checkpoint_prefix=student")


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def statistics(**values: float):
    """Return a writer of our checkpoint with other statistics of the input."""
    buffers = {name: torch.full((3, 1, 1), value) for name, value in values.items()}
    return lambda path: safetensors.torch.save_file(network(1).state_dict() | buffers, path)


def truncated(path: Path) -> None:
    WRITTEN["ours.safetensors" if path.suffix == ".safetensors" else "plain.pt"](path)
    path.write_bytes(path.read_bytes()[:-100])


def lying(length: int | None = None, **entries: tuple[int, int]):
    """Return a writer of a .safetensors file with a wrong header."""

    def write(path: Path) -> None:
        about = {name: {"dtype": "F32", "shape": [2], "data_offsets": list(where)} for name, where in entries.items()}
        header = json.dumps(about).encode()
        path.write_bytes(struct.pack("<Q", length or len(header)) + header + bytes(16))

    return write


def scripted(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


HUNDRED = changed(fc__weight=torch.ones(100, 64), fc__bias=torch.ones(100))
HEADLESS = {name: value for name, value in bare("backbone.").items() if ".fc." not in name}
HEAD = torch.ones(CLASSES, 64)
CONV = torch.ones(16, 3, 3, 3)
REFUSED = {
    "pickle.pt": (
        lambda path: torch.save({"model": Harm()}, path),
        r"(?s)weights-only torch file: it holds \w+.mkdir, which is code and was not run.*save\(network.state_dict",
    ),
    "args.pth.tar": (
        lambda path: torch.save({"state_dict": bare(), "args": argparse.Namespace(hook=Harm())}, path),
        r"it holds \w+.mkdir, which is code and was not run",
    ),
    "network.pt": (
        lambda path: torch.save(network(1).network, path),
        r"it holds kd\.models\.\S+, which is code and was not run",
    ),
    "script.pt": (scripted, r"(?s)is a TorchScript archive, not weights.*Save the state_dict\(\)"),
    "text.pt": (lambda path: path.write_text("weights"), "not a readable"),
    "text.safetensors": (lambda path: path.write_text("weights"), "not a readable"),
    "empty.pt": (lambda path: path.touch(), "not a readable .*: it is empty"),
    "empty.safetensors": (lambda path: path.touch(), "not a readable .*: it is empty"),
    "cut.pt": (truncated, "not a readable"),
    "cut.safetensors": (truncated, "not a readable"),
    "folder.pt": (lambda path: path.mkdir(), "is a folder: name a file in it"),
    "length.safetensors": (lying(length=2**62, a=(0, 8)), "not a readable"),
    "outside.safetensors": (lying(a=(0, 8), b=(2**40, 2**40 + 8)), "not a readable"),
    "overlap.safetensors": (lying(a=(0, 8), b=(4, 12)), "not a readable"),
    "list.pt": (lambda path: torch.save([torch.ones(2)], path), "holds no state dict"),
    "unnamed.pt": (lambda path: torch.save({0: torch.ones(2)}, path), "holds no state dict"),
    "number.pt": (lambda path: torch.save({"lr": 0.1}, path), "holds no state dict"),
    "scalar.pth": (lambda path: torch.save(0.1, path), "entries$"),
    "keys.pth": (
        lambda path: torch.save({"net": {"lr": 1}, "acc": 0.1}, path),
        r"no state dict.*\(it holds net, acc\)",
    ),
    "two.pth": (
        lambda path: torch.save({"net": bare(), "ema": bare(seed=2)}, path),
        r"(?s)2 networks that fit, under net\., ema\..*checkpoint_prefix=net or teacher.checkpoint_prefix=ema$",
    ),
    "both.ckpt": (
        lambda path: torch.save({"state_dict": bare("student.") | bare("teacher.", 2)}, path),
        r"(?s)2 networks that fit, under student\., teacher\..*prefix=student or teacher.checkpoint_prefix=teacher$",
    ),
    "averaged.ckpt": (
        lambda path: torch.save({"state_dict": bare("model.") | bare("ema_model.module.", 2)}, path),
        r"under model\., ema_model\.module\.",
    ),
    "inside.ckpt": (
        lambda path: torch.save({"state_dict": {**bare("model."), "model.gate": torch.ones(2)}}, path),
        "another network: gate is not known",
    ),
    "head.ckpt": (
        lambda path: torch.save({"state_dict": renamed("model.", "head.1.")}, path),
        r"(?s)another network: fc.bias is missing.*; head.1.bias is not known.*rename them.*head.1.bias to fc.bias",
    ),
    "beside.ckpt": (
        lambda path: torch.save({"state_dict": {**HEADLESS, "head.weight": HEAD, "head.bias": HEAD[:, 0]}}, path),
        r"(?s)another network: fc.bias is missing.*; head.bias is not known.*rename them.*head.bias to fc.bias",
    ),
    "classes.ckpt": (
        lambda path: torch.save({"state_dict": {f"model.{n}": v for n, v in HUNDRED.items()}}, path),
        r"its classifier has 100 classes, the data has 6 \(fc.weight; fc.bias\)",
    ),
    "other.pt": (lambda path: torch.save({"fc.weight": torch.ones(2)}, path), "another network: .* is missing"),
    "more.pt": (lambda path: torch.save(changed(gate=torch.ones(2)), path), "another network: gate is not known"),
    "classes.pt": (
        lambda path: torch.save(changed(fc__weight=torch.ones(10, 64), fc__bias=torch.ones(10)), path),
        r"has other classes: its classifier has 10 classes, the data has 6 \(fc.weight; fc.bias\)",
    ),
    "shape.pt": (
        lambda path: torch.save(changed(fc__weight=torch.ones(6, 32)), path),
        r"another network: fc.weight is \(6, 32\) and should be \(6, 64\)",
    ),
    "nothing.pt": (
        lambda path: torch.save(changed(conv1__weight=torch.ones(0, 3, 3, 3), fc__weight=torch.ones(6, 0)), path),
        r"another network: conv1.weight is \(0, 3, 3, 3\)",
    ),
    "nan.pt": (
        lambda path: torch.save(changed(fc__bias=torch.tensor([0, 1, 2, 3, 4, torch.nan])), path),
        r"NaN or infinite, in 1 of \d+ tensors: fc.bias \(1 of 6\)",
    ),
    "inf.safetensors": (
        lambda path: safetensors.torch.save_file(changed(fc__bias=torch.full((6,), torch.inf)), path),
        r"fc.bias \(6 of 6\)",
    ),
    "beyond.pt": (lambda path: torch.save(changed(conv1__weight=1e300 * CONV.double()), path), "NaN or infinite"),
    "whole.pt": (
        lambda path: torch.save(changed(conv1__weight=CONV.to(torch.int8)), path),
        "floating-point weights: conv1.weight is torch.int8",
    ),
    "sparse.pt": (lambda path: torch.save(changed(conv1__weight=CONV.to_sparse()), path), "conv1.weight is sparse"),
    "meta.pt": (lambda path: torch.save(changed(conv1__weight=CONV.to("meta")), path), "not a readable|no numbers"),
    "pixels.safetensors": (
        statistics(mean=123.7, std=58.4),
        "pixels.safetensors contains .*divide those .* by 255",
    ),
    "flat.safetensors": (statistics(std=0.0), "std above 0"),
    "unknown.safetensors": (statistics(mean=torch.nan), "three numbers each"),
    "negative.safetensors": (statistics(mean=-0.5), r"must lie in \[0, 1\]"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_a_file_of_another_kind_or_network_is_refused_and_never_executed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, says = REFUSED[name]
    write(tmp_path / name)
    warnings.filterwarnings("error", ".*TorchScript", UserWarning)  # torch's warning, before our error
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        load_external(network(), tmp_path / name)
    assert len(str(caught.value).splitlines()) <= 2 and len(str(caught.value)) < 500, "few lines"
    assert not (tmp_path / "harm").exists()


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_a_checkpoint_brings_the_statistics_that_it_was_trained_with(tmp_path):
    torch.save(changed(fc__bias=torch.full((6,), torch.nan)), tmp_path / "teacher.pt")
    with pytest.raises(ValueError, match="fc.bias"):
        run(tmp_path / "a", "teacher=resnet8", f"teacher.checkpoint={tmp_path / 'teacher.pt'}")
    assert [path.name for path in (tmp_path / "a").glob("[!.]*") if path.name != "machines"] == ["data"], (
        "before anything is trained"
    )
    torch.save(bare(), tmp_path / "teacher.pt")
    how = ["teacher=resnet8", f"teacher.checkpoint={tmp_path / 'teacher.pt'}", "report=false", "baseline=false"]
    _, data = run(tmp_path / "a", *how)
    _, own = run(tmp_path / "a", *how, "teacher.mean=[0,0,0]", "teacher.std=[1,1,1]")
    assert data["teacher"]["nll"] != own["teacher"]["nll"], "other statistics are another teacher"
    safetensors.torch.save_file(network(1).state_dict(), tmp_path / "ours.safetensors")
    how[1] = f"teacher.checkpoint={tmp_path / 'ours.safetensors'}"
    _, explicit = run(tmp_path / "a", *how, "teacher.mean=[0,0,0]", "teacher.std=[1,1,1]")
    assert explicit["teacher"]["nll"] == own["teacher"]["nll"], "settings count more than the file's statistics"
    for wrong in (
        "teacher.mean=[0,0,0]",
        "teacher.std=[1,1,0] teacher.mean=[0,0,0]",
        "teacher.std=[1] teacher.mean=[0]",
        "teacher.std=[1,1,.nan] teacher.mean=[0,0,0]",
        "teacher.std=[58,57,57] teacher.mean=[124,117,104]",
    ):
        with pytest.raises(ValueError, match="mean and std must be three|teacher.(mean|std)"):
            run(tmp_path / "a", *how, *wrong.split())
