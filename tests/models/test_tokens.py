"""Transformers of timm: exact logits, maps [B, C, H, W], other image sizes, and the costs that they have."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from kd.evaluation.cost import macs
from kd.interfaces import extract_outputs, is_map
from kd.methods.catkd import CATKD
from kd.models.backbone import build
from kd.models.normalized import Normalized
from kd.models.tokens import choose_maps
from kd.runtime.device import Device
from kd.teachers.frozen import frozen_copy

NEEDS = frozenset({"logits", "embedding", "features", "class_maps"})
# one small network a family: name, image size, maps, whether the head reads a map
FAMILIES = [
    ("test_vit", 64, 4, False),
    ("test_vit_relpos", 64, 4, False),
    ("deit_tiny_distilled_patch16_224", 64, 4, False),
    ("cait_xxs24_224", 64, 4, False),
    ("pit_ti_224", 64, 3, False),
    ("levit_128s", 64, 3, False),
    ("swin_s3_tiny_224", 64, 4, False),
    ("mobilevit_xxs", 64, 5, True),
    ("test_coatnet", 64, 5, True),
    ("test_mambaout", 64, 4, False),
    ("test_convnext", 64, 4, True),
    ("test_efficientnet", 64, 5, True),
    ("test_resnet", 64, 5, True),
]
MORE = """
beit_base_patch16_224 coat_tiny convit_tiny convmixer_768_32 crossvit_9_240 davit_tiny edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0 fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny gmlp_ti16_224 hiera_tiny_224 iformer_t inception_next_atto nest_tiny_jx mixer_s32_224
mobilevitv2_050 mvitv2_tiny nextvit_small poolformerv2_s12 pvt_v2_b0 rdnet_tiny repvit_m1 samvit_base_patch16_224
sequencer2d_s shvit_s1 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_224
swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_legacy_patch16_224 twins_svt_small visformer_tiny
vit_tiny_patch16_dinov3_qkvb vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xcit_nano_12_p8_224
"""


def made(name: str, size: int, **settings) -> Normalized:
    torch.manual_seed(0)
    return Normalized(build(name, 6, size, **settings), (0.5,) * 3, (0.25,) * 3).eval()


@pytest.mark.parametrize(("name", "size", "count", "reads_map"), FAMILIES)
def test_a_family_shows_exact_logits_and_maps(name, size, count, reads_map):
    network, image = made(name, size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        shown = extract_outputs(network, image, NEEDS)
        assert torch.equal(shown.logits, network(image))
    assert shown.logits.shape == (2, 6) and shown.embedding.ndim == 2
    assert len(shown.features) == count and all(one.ndim == 4 for one in shown.features)
    channels = [info["num_chs"] for info in timm.create_model(name).feature_info]
    assert [one.shape[1] for one in shown.features] == [channels[i] for i in kept(len(channels), count)]
    sides = [one.shape[-1] for one in shown.features]
    assert sides == sorted(sides, reverse=True)
    assert (shown.class_maps is not None) == reads_map


def kept(blocks: int, count: int) -> list[int]:
    return list(range(blocks)) if blocks == count else [blocks * n // count - 1 for n in range(1, count + 1)]


OTHER_SIDES = {"efficientformer_l1": 224, "nest_tiny_jx": 64}  # the first takes no other, the second no 96


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE.split())
def test_many_families_show_maps_at_another_size_than_their_own(name):
    size = OTHER_SIDES.get(name, 96)
    with torch.device("meta"), torch.no_grad():
        network = made(name, size)
        shown = extract_outputs(network, torch.rand(2, 3, size, size), NEEDS)
    assert shown.logits.shape == (2, 6) and shown.embedding.ndim == 2
    assert len(shown.features) >= 3 and all(one.ndim == 4 for one in shown.features)
    with torch.device("meta"):
        network.requires_grad_(True)
        assert macs(network, size) > 0


def test_four_of_twelve_blocks_are_shown_and_all_stages_of_a_pyramid():
    blocks = [torch.full((1, 2, 3, 3), float(number)) for number in range(12)]
    assert [one.max().item() for one in choose_maps(blocks)] == [2, 5, 8, 11]
    stages = [torch.zeros(1, 8 * 2**number, 32 // 2**number, 1) for number in range(5)]
    assert choose_maps(stages) == stages and choose_maps(blocks[:4]) == blocks[:4] and choose_maps([]) == []


@pytest.mark.parametrize(
    ("size", "stem", "side"),
    [(32, "auto", 8), (28, "auto", 7), (32, "large", 2), (64, "small", 16), (64, "auto", 4)],
)
def test_a_vit_has_smaller_patches_for_small_images(size, stem, side):
    shown = extract_outputs(made("test_vit", size, stem=stem), torch.rand(1, 3, size, size))
    assert shown.features[-1].shape[-2:] == (side, side)


def test_a_transformer_without_patches_keeps_its_stem_and_refuses_a_small_one():
    published = timm.create_model("test_coatnet", num_classes=6, img_size=32)
    assert {n: v.shape for n, v in made("test_coatnet", 32).network.state_dict().items()} == {
        n: v.shape for n, v in published.state_dict().items()
    }
    with pytest.raises(ValueError, match="stem=small: test_coatnet has no smaller stem for 32 x 32 .*use stem=large"):
        build("test_coatnet", 6, 32, stem="small")


def test_at_its_own_size_a_network_is_timms():
    torch.manual_seed(0)
    ours = build("test_vit", 6, 160)
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=6)
    assert all(torch.equal(theirs.state_dict()[name], value) for name, value in ours.state_dict().items())


def test_trying_sizes_changes_no_initial_weights():
    """The first network of a size is tried on the meta device, the second is not."""
    one, two = made("test_vit3", 48), made("test_vit3", 48)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_macs_count_attention_on_every_device():
    """12 blocks of 12 D^2 a token and 2 D a pair of tokens, the patches and the classifier; timm states 1.26 G."""
    network, tokens, width = timm.create_model("vit_tiny_patch16_224"), 197, 192
    by_hand = 12 * (12 * width**2 * tokens + 2 * width * tokens**2) + 196 * 768 * width + 1000 * width
    assert macs(network, 224) == macs(network.to("meta"), 224) == by_hand


@pytest.mark.parametrize("name", ["test_vit", "levit_128s"])
def test_a_frozen_transformer_agrees(name):
    """LeViT has batch norms after convolutions and after linear layers; only the first are folded."""
    network, image = made(name, 64), torch.rand(4, 3, 64, 64)
    for precision, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        device = Device(torch.device("cpu"), precision, True)
        network = device.to_device(network)
        frozen = frozen_copy(copy.deepcopy(network), image[:2], device, NEEDS)
        with torch.no_grad(), device.autocast():
            mine, theirs = (extract_outputs(n, image, NEEDS).to_float32(NEEDS) for n in (frozen, network))
        for one, other in zip((mine.logits, *mine.features), (theirs.logits, *theirs.features), strict=True):
            assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_tokens_and_maps_with_channels_last_are_no_maps():
    maps = [torch.zeros(2, 8, 4, 4)]
    assert is_map(torch.zeros(2, 8, 4, 4), maps) and is_map(torch.zeros(2, 32, 4, 4), maps)
    assert not is_map(torch.zeros(2, 4, 4, 8), maps) and not is_map(torch.zeros(2, 17, 8), maps)
    assert not is_map([torch.zeros(2, 17, 8)], maps)


def test_class_maps_of_a_transformer_are_refused_by_name():
    network, image = made("test_vit", 64), torch.rand(2, 3, 64, 64)
    shown = extract_outputs(network, image, CATKD.needs)
    with pytest.raises(ValueError, match="kd=catkd .*as transformers do"):
        CATKD().setup(shown, shown)
