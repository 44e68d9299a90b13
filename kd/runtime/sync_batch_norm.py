"""Batch norm whose statistics are those of the global batch, on any device.

``nn.SyncBatchNorm`` takes no CPU tensors, and on a GPU its three boolean indexings a layer make the host wait for the
device: 90 times a step for a Vision Eagle ResNet-18. Here a forward pass is one collective, a backward pass another,
and the host reads nothing.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class SyncBatchNorm(nn.SyncBatchNorm):
    """``nn.SyncBatchNorm`` as above, with the activation of timm's batch norms."""

    process_group = None  # all processes

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            x = super().forward(x)
        else:
            mean, var, count = _moments(x.detach())
            if self.track_running_stats:
                self.num_batches_tracked += 1
                momentum = self.momentum
                if momentum is None:
                    momentum = (1 / self.num_batches_tracked).to(mean.dtype)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (count / (count - 1)), momentum)
            x = _Normalize.apply(x, self.weight, self.bias, mean, var, count, self.eps)
        return self.act(self.drop(x)) if hasattr(self, "act") else x


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of each channel of [B, C, ...] over all processes, in float32 or better, and the number
    of values, float64."""
    unused = x.new_zeros(2, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))  # sets the precision
    mean, var = torch.batch_norm_update_stats(x, *unused, 0.0)
    own = torch.stack([mean, var, torch.full_like(mean, x.numel() // x.shape[1])])
    gathered = own.new_empty(dist.get_world_size(), *own.shape)
    dist.all_gather(list(gathered.unbind()), own)
    means, variances, counts = gathered.unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / count  # not E[x^2] - E[x]^2, which loses digits
    return mean, var, count[0].double()  # on the device: reading it would wait


class _Normalize(torch.autograd.Function):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, with the gradient through the moments of all processes.

    Gradients of weight and bias are those of this process; DDP averages them. Uses torch's kernels: with differentiable
    operations batch norm took 3 to 7 times as long.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, count, eps):
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, var, count = ctx.saved_tensors
        like = torch.ones_like(mean) if weight is None else weight  # on a GPU the kernel reads its format
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, like, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([by_weight, by_bias])
        dist.all_reduce(sums)
        inverse = torch.rsqrt(var + ctx.eps)
        scale = inverse if weight is None else weight * inverse
        slope = -scale * inverse * sums[0] / count
        offset = -scale * sums[1] / count - slope * mean
        scale, slope, offset = (row.view(-1, *[1] * (x.ndim - 2)) for row in (scale, slope, offset))
        by_x = torch.addcmul(torch.addcmul(offset, x, slope), grad, scale).to(x.dtype)
        return by_x, None if weight is None else by_weight, None if weight is None else by_bias, None, None, None, None
