"""timm's pretrained weights: local files are used, and a silent server causes an error in time."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants

from kd.models import hub
from kd.models.backbone import build
from tests.pipeline.test_run import command

REVISION = "0" * 40


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A hub that accepts connections and does not answer, and an empty cache."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
        hub.check_server.cache_clear()
        yield listening
        hub.check_server.cache_clear()


def put(folder: Path, network: torch.nn.Module) -> None:
    """Write the weights of a network of timm as ``hf download`` does."""
    place = folder / f"models--{network.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (place / "snapshots" / REVISION).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)
    safetensors.torch.save_file(network.state_dict(), place / "snapshots" / REVISION / "model.safetensors")


def test_an_error_about_a_silent_hub_says_what_to_do(silent):
    with pytest.raises(ValueError) as caught:
        build("resnet10t", 6, 64, pretrained=True)
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        "the pretrained weights of resnet10t are not on this machine and cannot be fetched from http"
    )
    assert first.endswith("(no answer within 1 seconds)")
    assert "teacher.pretrained=false" in second and "'hf download timm/resnet10t.c3_in1k model.safetensors'" in second
    assert f"models--timm--resnet10t.c3_in1k, there in ~/.cache/huggingface/hub, to {constants.HF_HUB_CACHE}" in second


def test_without_a_network_or_in_offline_mode_the_error_comes_at_once(silent, monkeypatch):
    silent.close()
    with pytest.raises(ValueError, match="refused"):
        build("resnet10t", 6, 64, pretrained=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        build("resnet10t", 6, 64, pretrained=True)


def test_local_weights_are_used_without_a_request(silent, tmp_path):
    torch.manual_seed(1)
    published = timm.create_model("resnet10t", num_classes=1000)
    put(tmp_path / "hub", published)
    network = build("resnet10t", 6, 64, pretrained=True)
    assert torch.equal(network.conv1[0].weight, published.conv1[0].weight)
    assert torch.equal(network.layer4[0].conv2.weight, published.layer4[0].conv2.weight)
    assert network.fc.weight.shape == (6, 512) and network.input_statistics[0] == published.pretrained_cfg["mean"]
    silent.settimeout(0)
    with pytest.raises(BlockingIOError):
        silent.accept()


def test_weights_on_another_server_are_requested_there(silent, monkeypatch, tmp_path):
    """A few old networks of timm, whose download has no timeout of its own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("kd.runtime.connection.TIMEOUT", 0.2)
    url = f"{constants.ENDPOINT}/old.pth"
    cfg = replace(timm.get_pretrained_cfg("resnet10t"), hf_hub_id=None, url=url)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: cfg)
    with pytest.raises(
        ValueError, match=f"fetched from {re.escape(url)} .*no answer within(?s:.*){tmp_path}/checkpoints"
    ):
        hub.find_pretrained("resnet10t")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "old.pth").touch()
    assert hub.find_pretrained("resnet10t") == {}


def test_an_error_names_a_network_without_pretrained_weights(silent):
    with pytest.raises(
        ValueError, match="timm has no pretrained weights of convnext_atto_rms: train from scratch with"
    ):
        build("convnext_atto_rms", 6, 64, pretrained=True)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_command_is_refused_in_time_and_before_anything_is_written(silent, monkeypatch, tmp_path, role):
    """With Python's start, as for a user. It took 52 seconds without a network, and minutes with a silent one."""
    monkeypatch.setenv("HF_ENDPOINT", constants.ENDPOINT)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    how = [f"{role}=timm", f"{role}.name=resnet10t", f"{role}.pretrained=true", "tracking=disabled"]
    done = command(*how, outputs=tmp_path / "outputs", cwd=tmp_path, ok=False, forked=False, timeout=60)
    assert done.returncode == 2 and "no answer within 1 seconds" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2 and not (tmp_path / "outputs").exists()
