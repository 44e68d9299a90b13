"""Base class of the small networks: children that run one after another, a global average pool, a classifier.

A network chooses the names of its children, so it can keep the parameter names of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

Info = dict[str, int | str]
MAX_BLOCKS = 200  # blocks a stage: the deepest residual network published for CIFAR has 1,202 layers


class Chain(nn.Module):
    """A network whose children run in order, with a global average pool before the last one, the classifier.

    It has the methods through which ``kd.interfaces`` reads outputs. Each member of a ``ModuleList`` counts as a child.
    A subclass sets ``feature_info``, the modules whose outputs are the maps; the pool reads the last of them.
    """

    feature_info: list[Info]

    def units(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield (path, module) of all that run before the pool, in order."""
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


def feature_info(*maps: tuple[str, int, int]) -> list[Info]:
    """Return ``feature_info`` from (module, channels, reduction), shallow to deep."""
    return [{"num_chs": channels, "reduction": reduction, "module": module} for module, channels, reduction in maps]


def conv(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, or divides it by ``stride``, rounded up."""
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)


def make_stage(
    block: Callable[[int, int, int], nn.Module], inside: int, outside: int, count: int, stride: int
) -> nn.Sequential:
    """Return ``count`` blocks ``block(inside, outside, stride)``; the first changes channels and size."""
    first, others = block(inside, outside, stride), (block(outside, outside, 1) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def init_weights(network: nn.Module, linear: float | None = None) -> None:
    """Initialise weights as in He et al. 2015 (https://arxiv.org/abs/1502.01852), in place.

    Convolutions get N(0, 2 / fan out) and biases of 0; batch norms stay at 1 and 0.

    Args:
        linear: standard deviation of linear layers, with biases of 0; None leaves torch's uniform initialisation.
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
    """Return the channel counts times ``width``, rounded, each at least 1.

    Raises:
        ValueError: a width that is not above 0.
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be above 0, got {width}")
    return [max(1, round(width * count)) for count in channels]


def check_image_size(image_size: int, least: int, name: str) -> None:
    """Raise ValueError for images that a network would shrink to nothing."""
    if image_size < least:
        raise ValueError(
            f"{name} shrinks images by a factor of {least}: data.image_size must be {least} or more, got {image_size}"
        )
