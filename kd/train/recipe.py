"""The training recipe: epochs, optimizer, learning rate schedule, label smoothing, mixup, CutMix, EMA, layers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean
from kd.train.dot import DOT
from kd.train.layers import Groups, groups_of

OWN_OPTIMIZERS = {"dot": DOT}  # beside timm's
# timm has these; known without importing it, which takes seconds
COMMON_OPTIMIZERS = ("adamw", "sgd", "momentum", "adam")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. ``conf/train/default.yaml`` gives the reasons for the values."""

    epochs: int
    optimizer: str = (
        "adamw"  # any name that timm.optim knows, or of OWN_OPTIMIZERS; bias and norm weights are not decayed
    )
    lr: float = 1e-3  # the peak of the schedule
    weight_decay: float = 0.05
    momentum: float = 0.9  # for optimisers that have one
    delta: float = 0.075  # of ``kd.train.dot.DOT`` alone: its two momenta are momentum - delta and momentum + delta
    warmup: float = 0.1  # share of the steps in which the rate rises to lr; then half a cosine to 0
    label_smoothing: float = 0.0
    mixup: float = 0.0  # probability of mixing another training image into a view
    cutmix: float = 0.0  # probability of pasting a part of another training image into a view
    view_epochs: int | None = None  # epochs with views of their own; later ones repeat them in turn. None: all
    clip_norm: float | None = None  # norm of the whole gradient
    ema: float | None = None  # decay of the averaged weights per step, e.g. 0.998; the averaged weights are kept
    layer_decay: float | None = None  # each layer of timm's network learns at this share of the rate of the next
    freeze_epochs: int = 0  # in the first epochs only the classifier of timm's network learns

    def __post_init__(self):
        mixed = self.mixup + self.cutmix  # 0.9 + 0.1 may be rounded up
        for name, good, right in (
            ("epochs", self.epochs >= 1, "1 or more"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("delta", 0 <= self.delta < 1, "in [0, 1)"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("mixup", 0 <= self.mixup <= 1, "in [0, 1]"),
            ("cutmix", self.cutmix >= 0 and mixed <= 1 + 1e-9, f"in [0, {1 - self.mixup:g}] with mixup={self.mixup:g}"),
            ("view_epochs", self.view_epochs is None or self.view_epochs >= 1, "1 or more, or null"),
            ("ema", self.ema is None or 0 < self.ema < 1, "in (0, 1), or null"),
            ("layer_decay", self.layer_decay is None or 0 < self.layer_decay < 1, "in (0, 1), or null"),
            ("freeze_epochs", 0 <= self.freeze_epochs <= self.epochs, f"in [0, epochs={self.epochs}]"),
            ("clip_norm", self.clip_norm is None or 0 < self.clip_norm < math.inf, "above 0, or null"),
        ):
            if not good:
                raise ValueError(f"{name} must be {right}, got {getattr(self, name)}")
        if self.optimizer in OWN_OPTIMIZERS:
            self._make(nn.Linear(1, 1), None)  # checks its numbers
        elif self.optimizer not in COMMON_OPTIMIZERS:
            from timm.optim import list_optimizers

            if self.optimizer not in list_optimizers():
                hint = did_you_mean(self.optimizer, [*list_optimizers(), *OWN_OPTIMIZERS])
                raise ValueError(f"timm has no optimizer {self.optimizer!r}{hint}")
            self._try()

    def _try(self) -> None:
        """Take a step: some of timm's optimisers need second derivatives, others packages that are not installed."""
        weight = nn.Linear(1, 1)
        try:
            optimizer = self._make(weight, None)
            weight(torch.ones(1, 1)).sum().backward()
            optimizer.step()
        except Exception as error:
            raise ValueError(f"optimizer {self.optimizer!r} does not work here: {first_line(error)}") from error

    @property
    def shown(self) -> dict[str, float | int | None]:
        """What changes the views of a loader: arguments of ``Loader.with_seed``."""
        return {"mixup": self.mixup, "cutmix": self.cutmix, "view_epochs": self.view_epochs}

    @property
    def takes_parts(self) -> bool:
        """Whether the optimizer takes the gradients of labels and of other terms apart: see ``kd.train.apart``."""
        return getattr(OWN_OPTIMIZERS.get(self.optimizer), "takes_parts", False)

    def optimizer_of(self, learned: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of all parameters, fused if it has such a kernel (AdamW: half the time per step).

        With ``layer_decay`` its groups have ``lr_scale``, by which the schedule's rate is multiplied.
        """
        layers = {name: getattr(self, name) for name in ("weight_decay", "layer_decay", "freeze_epochs")}
        by_layer = partial(groups_of, **layers) if self.layer_decay or self.freeze_epochs else None
        return self._make(learned, by_layer)

    def _make(self, learned: nn.Module, by_layer: Callable[[nn.Module], Groups] | None) -> torch.optim.Optimizer:
        from timm.optim import create_optimizer_v2, get_optimizer_class, param_groups_weight_decay

        if self.optimizer in OWN_OPTIMIZERS:
            groups = by_layer(learned) if by_layer else param_groups_weight_decay(learned, self.weight_decay)
            return OWN_OPTIMIZERS[self.optimizer](groups, self.lr, self.momentum, self.delta, self.weight_decay)
        fused = "fused" in inspect.signature(get_optimizer_class(self.optimizer, bind_defaults=False)).parameters
        optimizer = create_optimizer_v2(
            learned,
            param_group_fn=by_layer,
            opt=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            **({"fused": True} if fused else {}),
        )
        if fused and isinstance(optimizer, torch.optim.SGD) and self.momentum:
            # the fused kernel takes no group of which a part has momentum, as one has whose adapters learn later; a
            # momentum of zero has the same bits as none
            for parameter in learned.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
