"""NORM: Knowledge Distillation via N-to-One Representation Matching (Liu, Li, Li, Yao, ICLR 2023),
https://arxiv.org/abs/2305.13803.

In training the student's last map passes two more layers, both linear: a 1x1 convolution and batch norm to N times the
teacher's channels, and a 1x1 convolution and batch norm back, added to the map itself. Each of the N groups of channels
learns the whole last map of the teacher. After training the layers are merged into the student's classifier, so that
the deployed student has the parameters that it had before. This takes a student whose classifier is one linear layer of
the average of its last map; others are refused. Costs 2 N C_student C_teacher weights, in training only.

A larger map of the teacher is max-pooled to the student's size, as in the authors' code; a larger map of the student is
average-pooled. Their training differs besides in two ways that are not done here: it normalises the logits of both
networks and multiplies them by a constant before the labels' term, and it weights this term by .1, .5, 1, .5 and .1
from epochs 0, 10, 20, 180 and 210 of 240 on.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs, is_map
from kd.methods._common import conv_norm, paired_maps, pool_to

REFUSED = (
    "kd=norm merges its layers into the student's classifier after training, and the classifier of this student is not "
    "one linear layer, with a bias, of the average of its last map. Choose another student, such as a ResNet"
)


def match_groups(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of each group of channels to the teacher's map, summed over groups, a scalar.

    Args:
        student: [B, N C, H, W]. teacher: [B, C, I, J], of which the larger of both is pooled.
    """
    height, width = (min(sides) for sides in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    if teacher.shape[-2:] != (height, width):
        teacher = F.adaptive_max_pool2d(teacher, (height, width))
    groups = pool_to(student, height, width).unflatten(1, (-1, teacher.shape[1]))
    return groups.shape[1] * (groups - teacher.unsqueeze(1)).square().mean()


class NORM(nn.Module):
    """``match_groups`` of the widened map; ``bind`` gives the student its two layers, ``deploy`` merges them.

    Args:
        copies: N, how often the student learns the teacher's map.
    """

    needs = frozenset({"features"})

    def __init__(self, copies: int = 8):
        super().__init__()
        if copies < 1:
            raise ValueError(f"kd.copies is a number of groups of channels and must be 1 or more, got {copies}")
        self.copies = copies

    def bind(self, context: Context) -> nn.Module:
        """Return a copy of the student with the two layers.

        Raises:
            ValueError: a teacher without maps, or a student whose classifier cannot take the layers.
        """
        student = context.student
        with torch.no_grad():
            image = torch.linspace(0, 1, 3 * context.image_size**2).view(1, 3, context.image_size, -1)
            _, given = context.teacher.forward_intermediates(image.to(next(context.teacher.parameters()).device))
            own = student.prepare(image.to(student.mean.device))
            last, features = copy.deepcopy(student.network).eval().forward_intermediates(own)
        if not given:
            paired_maps(Outputs(None, None, tuple(features)), None)  # raises
        if not is_map(last, features):
            raise ValueError(REFUSED)
        widened = copy.deepcopy(student)
        widened.network = Widened(widened.network, tuple(last.shape[1:]), self.copies * given[-1].shape[1])
        widened.to(student.mean.device)
        _check(widened.network, last)
        return widened

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return a copy of the student without the two layers, merged into its classifier.

        Raises:
            ValueError: another method has put the student into a network of its own.
        """
        if not isinstance(network.network, Widened):
            raise ValueError(
                "kd=norm merges its layers into the student's classifier, and another method has replaced that: "
                "combine it with methods that leave the student as it is"
            )
        deployed = copy.deepcopy(network)
        deployed.network = deployed.network.merged()
        return deployed

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""
        paired_maps(student, teacher, (-1,))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return match_groups(student.features[-1], teacher.features[-1])


class Widened(nn.Module):
    """A student with two linear layers between its last map and its head.

    Args:
        student: with timm's ``forward_intermediates`` and ``forward_head``.
        shape: of its last map, (C, H, W). between: channels after the first layer.
    """

    added_layers = ("widen", "narrow")  # that learn and are not the student's own: see ``kd.train.gradients``
    appends_map = True  # so no other term that pairs maps may read its features: see ``Objective.bind``

    def __init__(self, student: nn.Module, shape: tuple[int, int, int], between: int):
        super().__init__()
        self.student, self.shape = student, shape
        self.widen, self.narrow = conv_norm(shape[0], between), conv_norm(between, shape[0])

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what the head reads, and the student's maps followed by the wide one."""
        last, features = self.student.forward_intermediates(image)
        wide = self.widen(last)
        return last + self.narrow(wide), [*features, wide]

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        return self.student.forward_head(last, pre_logits=pre_logits)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(image)[0])

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return a copy of the student whose classifier does in eval mode what layers and classifier do together.

        Raises:
            ValueError: the last linear layer of the head is no classifier of the last map.
        """
        student = copy.deepcopy(self.student)
        weight, shift = _affine(self.widen)
        back, more = _affine(self.narrow)
        weight, shift = torch.eye(len(back)).to(back) + back @ weight, back @ shift + more
        linear = _classifier(student, self.shape)
        bias = linear.bias.double() + linear.weight.double() @ shift
        linear.weight.copy_(linear.weight.double() @ weight)
        linear.bias.copy_(bias)
        return student


def _affine(layer: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Return weight [D, C] and shift [D] of a 1x1 convolution and batch norm in eval mode, float64."""
    convolution, norm = layer
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return convolution.weight.double().flatten(1) * scale[:, None], shift


def _classifier(student: nn.Module, shape: tuple[int, int, int]) -> nn.Linear:
    """Return the last linear layer that the head runs on a map of this shape.

    Raises:
        ValueError: it has another width or no bias.
    """
    called: list[nn.Linear] = []
    linear = [module for module in student.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_hook(lambda module, *_: called.append(module)) for module in linear]
    training = student.training
    student.eval().forward_head(torch.zeros(1, *shape, device=next(student.parameters()).device))
    student.train(training)
    for hook in hooks:
        hook.remove()
    if not called or called[-1].in_features != shape[0] or called[-1].bias is None:
        raise ValueError(REFUSED)
    return called[-1]


@torch.no_grad()
def _check(widened: Widened, last: Tensor) -> None:
    """Raise ValueError if the head of the merged student answers something else than that of the widened one."""
    whole = copy.deepcopy(widened).eval()
    answer = whole.forward_head(last + whole.narrow(whole.widen(last)))
    merged = whole.merged().forward_head(last)
    if not isinstance(answer, Tensor) or not torch.allclose(merged, answer, 1e-3, 1e-3 * float(answer.abs().max())):
        raise ValueError(REFUSED)
