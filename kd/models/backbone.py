"""Any network of timm with feature maps, as teacher or student (https://huggingface.co/docs/timm)."""

from __future__ import annotations

from pathlib import Path

import timm
from torch import nn

from kd.models.hub import find_pretrained
from kd.models.pretrained import forget_file, quiet_timm, read_pretrained, shrink_new_classifier
from kd.models.timm_size import fit_to_size
from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean

SMALL_IMAGE = 40  # pixels: a stem made for 224 shrinks CIFAR's 32 and FashionMNIST's 28 too much


def build(
    name: str, num_classes: int, image_size: int, pretrained: bool | str = False, stem: str = "auto"
) -> nn.Module:
    """Create a timm network that takes [B, 3, image_size, image_size].

    Args:
        name: any name from ``timm.list_models()``.
        pretrained: start from timm's weights (True), or from those in a file or in the folder of a model card; the
            network keeps the normalisation of their training.
        stem: "large" is the published network; "small" does not shrink the image in the first convolution and drops
            the max-pool after it, as the CIFAR variants do; "auto" is "small" up to 40 pixels. The small stem of a
            transformer has smaller patches, 4 pixels for 16; one without patches keeps its own for "auto".

    Raises:
        ValueError: unknown name or stem, a network without feature maps, or weights that cannot be fetched.
    """
    sized, is_small = _form(name, image_size, stem, bool(pretrained))
    file = read_pretrained(name, Path(pretrained).expanduser()) if isinstance(pretrained, str) else None
    overlay = file.overlay if file else find_pretrained(name) if pretrained else None
    try:
        with quiet_timm():
            network = timm.create_model(
                name,
                pretrained=bool(pretrained),
                num_classes=num_classes,
                pretrained_cfg_overlay=overlay,
                **{**(file.arguments if file else {}), **sized},
            )
    except Exception as error:
        if not pretrained:
            raise
        if sized:
            raise ValueError(
                f"timm does not convert the pretrained weights of {name} to images of {image_size} x {image_size} "
                f"pixels ({first_line(error)})\nUse the image size that it was trained with: "
                f"{timm.get_pretrained_cfg(name).input_size[-1]}; for a teacher that is teacher.image_size"
            ) from error
        if file:
            raise
        raise ValueError(
            f"the pretrained weights of {name} could not be fetched: {type(error).__name__}: {error}\n"
            "Train from scratch (teacher.pretrained=false, or student.pretrained=false), or fetch them on a machine "
            "with a network and copy the Hugging Face cache (HF_HOME)."
        ) from error
    if not (hasattr(network, "forward_intermediates") and hasattr(network, "feature_info")):
        raise ValueError(f"{name} has no feature maps (forward_intermediates); choose another network")
    if pretrained:
        if network.pretrained_cfg["num_classes"] != num_classes:
            shrink_new_classifier(network)
        network.input_statistics = (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    if file:
        network.weights_from = file.describe(num_classes)
        forget_file(network)
    if is_small:
        adapt_stem(network, keep_weights=bool(pretrained))
    return network


def build_untrained(
    name: str, num_classes: int, image_size: int, pretrained: bool | str = False, stem: str = "auto"
) -> nn.Module:
    """Create the network that ``build`` creates with these settings, with initial weights: the caller has its own.

    Nothing is read or downloaded. What ``pretrained`` changes of the architecture is the same.

    Raises:
        ValueError: unknown name or stem.
    """
    sized, is_small = _form(name, image_size, stem, bool(pretrained))
    network = timm.create_model(name, num_classes=num_classes, **sized)
    if is_small:
        adapt_stem(network, keep_weights=bool(pretrained))
    return network


build.untrained = build_untrained


def _form(name: str, image_size: int, stem: str, pretrained: bool) -> tuple[dict[str, int], bool]:
    """Return timm's arguments for this image size, and whether to adapt the stem; see ``fit_to_size``."""
    if stem not in ("auto", "small", "large"):
        raise ValueError(f"stem must be auto, small or large, got {stem!r}")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    is_small = stem == "small" or (stem == "auto" and image_size <= SMALL_IMAGE)
    return fit_to_size(name, image_size, stem, is_small, adapt_stem, pretrained)


def adapt_stem(network: nn.Module, keep_weights: bool = False) -> None:
    """Adapt the stem to small images, in place: first convolution 3x3 at stride 1, no max-pool right after it.

    A pretrained kernel stays as it is, at stride 1. A patch stem (kernel equal to stride) from scratch becomes 2x2 at
    stride 2.

    Raises:
        ValueError: a network without a convolution.
    """
    path, first = next(((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if first is None:
        raise ValueError("stem: this network has no convolution that could shrink less; use stem=large")
    patch = first.kernel_size == first.stride and first.stride[0] > 1
    if keep_weights:
        first.stride = (1, 1)
    else:
        size, stride, padding = (2, 2, 0) if patch else (3, 1, 1)
        owner, _, attribute = path.rpartition(".")
        small = nn.Conv2d(first.in_channels, first.out_channels, size, stride, padding, bias=first.bias is not None)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        setattr(network.get_submodule(owner), attribute, small)
    if isinstance(getattr(network, "maxpool", None), nn.Module):
        network.maxpool = nn.Identity()
