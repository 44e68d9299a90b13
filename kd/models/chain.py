"""What the small networks have in common: children that run one after another, a global average pool, a classifier.

The children's names are the network's to choose, so one can keep the parameter names of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

Info = dict[str, int | str]
MOST = 200  # blocks of a stage: the deepest residual network that was published for CIFAR has 1,202 layers


class Chain(nn.Module):
    """The tap methods of ``kd.interfaces``: children run in the order they were registered, the last one classifies.

    In front of the classifier is a global average pool. A ``ModuleList`` counts as so many children. A subclass sets
    ``feature_info``, which says at whose outputs the maps are; its last entry names what the pool reads.
    """

    feature_info: list[Info]

    def units(self) -> Iterator[tuple[str, nn.Module]]:
        """(path, module) of all that runs before the pool, in order."""
        *trunk, _ = self.named_children()
        for name, child in trunk:
            if isinstance(child, nn.ModuleList):
                yield from ((f"{name}.{number}", unit) for number, unit in child.named_children())
            else:
                yield name, child

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (last map, [[B, C_i, H_i, W_i] ...])."""
        boundaries = {info["module"] for info in self.feature_info}
        features = []
        for path, unit in self.units():
            image = unit(image)
            if path in boundaries:
                features.append(image)
        return image, features

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map -> logits [B, K], or the pooled embedding [B, D] with ``pre_logits``."""
        *_, classifier = self.children()
        pooled = last.mean((2, 3))
        return pooled if pre_logits else classifier(pooled)

    def forward(self, image: Tensor) -> Tensor:
        for _, unit in self.units():
            image = unit(image)
        return self.forward_head(image)


def feature_info(*found: tuple[str, int, int]) -> list[Info]:
    """``feature_info`` from (module, channels, reduction), shallow to deep."""
    return [{"num_chs": channels, "reduction": reduction, "module": module} for module, channels, reduction in found]


def conv(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, or divides it by ``stride``, rounded up."""
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)


def make_stage(
    block: Callable[[int, int, int], nn.Module], inside: int, outside: int, count: int, stride: int
) -> nn.Sequential:
    """``count`` times ``block(inside, outside, stride)``; the first one changes channels and size."""
    first, others = block(inside, outside, stride), (block(outside, outside, 1) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def init_weights(network: nn.Module, linear: float | None = None) -> None:
    """Draw weights as He et al. 2015 (https://arxiv.org/abs/1502.01852), in place.

    Convolutions from N(0, 2 / fan out), with biases of 0; batch norms stay at 1 and 0.

    Args:
        linear: standard deviation of linear layers, whose biases are then 0; None leaves them at torch's uniform.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and linear is not None:
            nn.init.normal_(module.weight, std=linear)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def scale_channels(channels: Sequence[int], width: float) -> list[int]:
    """``width`` times as many channels, at least one each.

    Raises:
        ValueError: a width that is not above 0.
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be above 0, got {width}")
    return [max(1, round(width * count)) for count in channels]


def check_image_size(image_size: int, least: int, name: str) -> None:
    """Refuse images that a network would shrink to nothing.

    Raises:
        ValueError: with what would be right.
    """
    if image_size < least:
        raise ValueError(
            f"{name} halves the image until {least} pixels are one: data.image_size must be {least} or more, "
            f"got {image_size}"
        )
