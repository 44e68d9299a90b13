"""Students and teachers: documented sizes, and one interface for all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kd.config.generated import generate, student_option
from kd.config.networks import names
from kd.interfaces import extract_outputs
from kd.models.backbone import build
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from tests.conftest import CONF, compose, options

NAMED = {"teacher": {"timm": "teacher.name=mobilenetv3_small_050"}, "student": {"timm": "student.name=resnet10t"}}


def check(network: torch.nn.Module, size: int) -> None:
    network = Normalized(network, (0.5,) * 3, (0.2,) * 3).eval()
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        shown = extract_outputs(network, image)
        assert torch.equal(shown.logits, network(image))
    assert shown.logits.shape == (2, 6) and shown.embedding.ndim == 2
    sides = [f.shape[-1] for f in shown.features]
    assert len(sides) >= 3 and sides == sorted(sides, reverse=True), "maps go from shallow to deep"


@pytest.mark.parametrize("option", [option for option in options("teacher") if option != "exported"])
def test_every_teacher_shows_what_methods_ask_for(option):
    cfg = compose(f"teacher={option}", *filter(None, [NAMED["teacher"].get(option)]))
    check(instantiate(cfg.teacher.network, num_classes=6, image_size=64), 64)


@pytest.mark.parametrize("option", options("student"))
def test_every_student_shows_what_methods_ask_for(option):
    cfg = compose(f"student={option}", *filter(None, [NAMED["student"].get(option)]))
    check(instantiate(cfg.student, num_classes=6, image_size=48), 48)


def test_every_student_is_a_teacher_too_under_its_own_name_with_its_settings():
    assert set(options("student")) < set(names("teacher"))
    for option in set(options("student")) - set(options("teacher")):
        of_timm, node_of_student = student_option(CONF / "student" / f"{option}.yaml")
        node = OmegaConf.create({"teacher": generate("teacher", option)})
        made = OmegaConf.to_container(node, resolve=not of_timm)["teacher"]
        assert {"name": made.get("name")} == node_of_student if of_timm else made["network"] == node_of_student
    for option in ("resnet8x4", "mobilenetv4_conv_small"):
        student, teacher = compose(f"student={option}").student, compose(f"teacher={option}").teacher
        assert teacher.network == student and teacher.checkpoint is None
    assert compose("teacher=tiny_cnn", "teacher.depth=2").teacher.network.depth == 2
    wide = compose("teacher=tiny_resnet", "teacher.width=3", "student=tiny_resnet")
    assert wide.teacher.network.width == 3 and wide.student.width == 1
    assert compose("teacher=resnet10t", "teacher.pretrained=true").teacher.network.pretrained


TINY = [option for option in options("student") if option.startswith("tiny_")]


@pytest.mark.parametrize("option", TINY)
def test_the_tiny_ones_are_comparable(option):
    """At width 1 each has nearly 0.1 M parameters, and not more; width changes every layer."""

    def size(*overrides: str) -> int:
        network = instantiate(compose(f"student={option}", *overrides).student, num_classes=10, image_size=32)
        return sum(p.numel() for p in network.parameters())

    assert 90_000 < size() <= 100_000
    for width, low, high in ((0.25, 0.05, 0.12), (0.5, 0.2, 0.35), (2, 3, 4.5)):
        assert low < size(f"student.width={width}") / size() < high


@pytest.mark.parametrize("option", TINY)
@pytest.mark.parametrize(("setting", "says"), [("width=0", "width must be above 0"), ("depth=0", "depth")])
def test_a_tiny_network_of_nothing_is_refused(option, setting, says):
    with pytest.raises(Exception, match=says):
        instantiate(compose(f"student={option}", f"student.{setting}").student, num_classes=6, image_size=32)


@pytest.mark.parametrize("option", TINY)
def test_images_that_are_too_small_are_refused(option):
    with pytest.raises(Exception, match=r"data.image_size must be (8|16) or more, got 7"):
        instantiate(compose(f"student={option}").student, num_classes=6, image_size=7)


def test_the_tiny_cnn_has_the_size_it_is_known_by():
    assert sum(p.numel() for p in TinyCNN(6, 100).parameters()) == 94_470


@pytest.mark.parametrize("width", [0.25, 0.5, 2, 4])
def test_width_scales_every_layer(width):
    narrow = TinyCNN(6, 48, width=width)
    assert [s[0].out_channels for s in narrow.stages] == [round(width * c) for c in (32, 64, 128)]
    assert narrow(torch.rand(2, 3, 48, 48)).shape == (2, 6)


def test_a_network_carries_its_own_normalisation():
    network = torch.nn.Identity()
    image = torch.rand(2, 3, 4, 4)
    out = Normalized(network, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(image)
    torch.testing.assert_close(out[:, 1], (image[:, 1] - 0.2) / 0.6)
    network.input_statistics = ((0.0,) * 3, (0.5,) * 3)  # statistics of pretrained weights take precedence
    torch.testing.assert_close(Normalized(network, (0.1,) * 3, (0.3,) * 3)(image), 2 * image)


def test_small_images_get_a_small_stem():
    large, small = build("resnet18", 6, 64), build("resnet18", 6, 32)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert extract_outputs(large.eval(), image).features[-1].shape[-1] == 1
        assert extract_outputs(small.eval(), image).features[-1].shape[-1] == 4


def test_wrong_names_are_answered_with_near_ones():
    with pytest.raises(ValueError, match="did you mean.*resnet18"):
        build("resnet_18", 6, 64)
    with pytest.raises(ValueError, match="data.image_size must be 8 or more"):
        TinyCNN(6, 4)


def test_pretrained_weights_keep_what_they_know_and_what_they_were_normalised_with(tmp_path, monkeypatch):
    """timm's own loading, of a local file instead of a download."""
    torch.manual_seed(1)
    published = timm.create_model("resnet10t", num_classes=1000).eval()
    safetensors.torch.save_file(published.state_dict(), tmp_path / "published.safetensors")
    cfg = timm.get_pretrained_cfg("resnet10t")
    local = replace(cfg, file=str(tmp_path / "published.safetensors"), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    known = timm.models._registry._model_pretrained_cfgs
    for name in [name for name in known if name.partition(".")[0] == "resnet10t"]:
        monkeypatch.setitem(known, name, local)
    network = build("resnet10t", 6, 64, pretrained=True).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.forward_features(image), published.forward_features(image))
        assert network(image).shape == (2, 6)
    normalized = Normalized(network, (0.5,) * 3, (0.5,) * 3)
    assert normalized.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert normalized.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_an_error_about_pretrained_weights_says_what_to_do(tmp_path, monkeypatch):
    cfg = replace(timm.get_pretrained_cfg("resnet10t"), file=str(tmp_path / "nowhere.safetensors"))
    known = timm.models._registry._model_pretrained_cfgs
    for name in [name for name in known if name.partition(".")[0] == "resnet10t"]:
        monkeypatch.setitem(known, name, cfg)
    with pytest.raises(ValueError, match="could not be fetched(?s:.*)pretrained=false(?s:.*)HF_HOME"):
        build("resnet10t", 6, 64, pretrained=True)
