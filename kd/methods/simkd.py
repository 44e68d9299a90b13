"""Knowledge Distillation with the Reused Teacher Classifier (Chen et al. 2022), https://arxiv.org/abs/2203.14001.

The student keeps its body; a projector maps its last map to the shape of the teacher's, and the teacher's own
classifier reads the result. The loss is the squared distance of the two maps alone: no labels, no logits.

The deployed network is body + projector + the teacher's head; parameters, MACs, size and latency count all three. (The
published evaluation ran the whole teacher as well, which made the student look slow.) A student of tens of thousands of
parameters may be smaller than its projector. Costs a projector in training and after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs, is_map
from kd.methods._common import conv_norm, paired_maps, pool_to, same_size


def map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference over all elements of two maps [B, C, H, W]."""
    return (student - teacher).square().mean()


class SimKD(nn.Module):
    """The distance of the projected map from the teacher's; ``bind`` replaces the student's network by ``Reused``.

    Args:
        factor: the inner width of the projector is the number of the teacher's channels divided by this.
    """

    needs = frozenset({"features"})

    def __init__(self, factor: int = 2):
        super().__init__()
        if factor < 1:
            raise ValueError(f"kd.factor must be 1 or more, got {factor}")
        self.factor = factor

    def bind(self, context: Context) -> nn.Module:
        return reuse(context.student, context.teacher, self.factor, context.image_size)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        paired_maps(student, teacher, (-1,))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return map_distance(*same_size(student.features[-1], teacher.features[-1]))


def reuse(student: nn.Module, teacher: nn.Module, factor: int, image_size: int) -> nn.Module:
    """Return a copy of ``student`` (a ``Normalized``) with a projector and the teacher's frozen head as classifier.

    Raises:
        ValueError: a teacher or a student whose head does not read its last map.
    """
    with torch.no_grad():
        image = torch.linspace(0, 1, 3 * image_size**2, device=next(teacher.parameters()).device)
        image = image.view(1, 3, image_size, image_size)
        read, features = teacher.forward_intermediates(image)
        if not features or not is_map(read, features) or not torch.equal(read, features[-1]):
            raise ValueError(
                "kd=simkd gives the teacher's classifier a map like the teacher's last one, and the head of this "
                "teacher reads something else: an ensemble has no head, and some networks have a layer between map and "
                "head. Choose another teacher"
            )
        own = student.prepare(image.to(student.mean.device))
        body = call_as_used(student.network, lambda network: network.forward_intermediates(own))
        head = call_as_used(teacher.network, lambda network: network.forward_head(read))
        last, features = copy.deepcopy(body).eval().forward_intermediates(own)
        if not is_map(last, features):
            raise ValueError(
                "kd=simkd projects the student's last map, and the head of this student reads something else, as "
                "those of transformers do. Choose another student"
            )
    projector = project(last.shape[1], read.shape[1], factor)
    size = tuple(min(sides) for sides in zip(last.shape[-2:], read.shape[-2:], strict=True))
    extended = copy.deepcopy(student)
    extended.network = Reused(body, projector, head, size)
    extended.reclass = copy.deepcopy(teacher.reclass)  # the head has the teacher's classes
    return extended.to(student.mean.device)


def project(inside: int, outside: int, factor: int) -> nn.Sequential:
    """Return the published bottleneck: 1x1, 3x3, 1x1 convolutions, each with batch norm and ReLU."""
    between = max(1, outside // factor)
    steps = [conv_norm(inside, between), conv_norm(between, between, 3), conv_norm(between, outside)]
    return nn.Sequential(*(nn.Sequential(*step, nn.ReLU()) for step in steps))


def call_as_used(network: nn.Module, call: Callable[[nn.Module], object]) -> nn.Module:
    """Return a copy of ``network`` without the modules that ``call(network)`` does not run."""
    network = copy.deepcopy(network)
    was_training = network.training
    called: set[nn.Module] = {network}
    hooks = [module.register_forward_pre_hook(lambda module, _: called.add(module)) for module in network.modules()]
    call(network.eval())
    for hook in hooks:
        hook.remove()

    def is_used(module: nn.Module) -> bool:
        return any(part in called for part in module.modules())

    def prune(module: nn.Module) -> None:
        for name, child in module.named_children():
            if is_used(child):
                prune(child)
            else:
                setattr(module, name, nn.Identity())

    prune(network)
    return network.train(was_training)


class Reused(nn.Module):
    """A student's body, the projector, and the classifier of its teacher, which is frozen.

    Args:
        size: height and width of the projected map: the smaller of the two networks' last maps.
    """

    added_layers = ("projector",)  # that learn and are not the student's own: see ``kd.train.gradients``

    def __init__(self, body: nn.Module, projector: nn.Module, head: nn.Module, size: tuple[int, int]):
        super().__init__()
        self.body, self.projector, self.head, self.size = body, projector, head.requires_grad_(False), size

    def train(self, mode: bool = True) -> Reused:
        super().train(mode)
        self.head.eval()  # it stays as in the teacher
        return self

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the projected map, and the body's maps followed by the projected one."""
        last, features = self.body.forward_intermediates(image)
        last = self.projector(pool_to(last, *self.size))
        return last, [*features, last]

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head.forward_head(last, pre_logits=pre_logits)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(image)[0])
