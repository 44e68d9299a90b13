"""One run on several processes, on one machine or more: ``torchrun --nproc_per_node=N -m kd.run …``, by torch's DDP.

Every process holds whole networks, takes its slice of each global batch and sees in it what one process would see:
order and views are functions of (seed, epoch, index), batch norm takes its statistics over the global batch, and what
differs is the order in which numbers are added. So N is in no key, no more than the machine is: a run that two
processes made is found by one, and would have come out a little differently there.

What does depend on N: the masks of dropout (each process draws its own), terms that compare the images of a batch with
each other (each sees its slice alone; CRD's memories see all), running statistics of terms (OFD's margins), and batch
norms of a kind of their own that are no ``nn.BatchNorm``.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from kd.store import Store

PATIENCE = timedelta(hours=12)  # the others wait while the first fills a store, decodes pictures or measures latencies


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and how they speak. ``Ranks()`` is the only one: nothing is sent.

    All of them call the same methods in the same order. Plain values travel by gloo, also where gradients go by NCCL.
    """

    rank: int = 0
    size: int = 1
    local: int = 0  # the number among those on one machine: of its GPU

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def part(self, positions: np.ndarray) -> np.ndarray:
        """This process's slice. Slices differ by one image at most; ``share`` weighs them."""
        return np.array_split(positions, self.size)[self.rank]

    def share(self, batch_size: int) -> float:
        """The factor that makes the mean over processes of means over slices the mean over the batch; about 1.

        Raises:
            ValueError: more processes than images.
        """
        if batch_size < self.size:
            raise ValueError(f"a batch of {batch_size} images cannot be shared by {self.size} processes: start fewer")
        return self.size * len(self.part(np.arange(batch_size))) / batch_size

    def tell(self, value: Any = None) -> Any:
        """Return the first one's value, to all."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box)
            (value,) = box
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return everybody's values, to all."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def collect(self, value: Any) -> list[Any]:
        """Return everybody's values to the first; the others get none."""
        values = [value] * self.size if self.first else []
        if self.size > 1:
            dist.gather_object(value, values or None)
        return values

    def mean(self, table: Tensor) -> Tensor:
        """The mean over processes of a tensor on the CPU."""
        if self.size > 1:
            table = table / self.size
            dist.all_reduce(table)
        return table

    def most(self, value: int) -> int:
        """The largest of everybody's numbers, to all."""
        if self.size > 1:
            largest = torch.tensor([value])
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
            value = int(largest)
        return value

    def wait(self) -> None:
        """Go on when all have come here."""
        self.mean(torch.zeros(1))  # and not dist.barrier(), which with NCCL would keep the GPUs busy waiting

    @contextmanager
    def lead(self) -> Iterator[None]:
        """Let the first go ahead through a block that makes what it does not find; then the others, who find it."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def obtain(self, store: Store, kind: str, name: str, make: Callable[[Path], None]) -> Path:
        """``store.obtain`` for what all make together: the first finds or publishes it, under the store's lock.

        The others' ``make`` writes to a folder that is thrown away. The store lies where all can read it.
        """
        if self.size == 1:
            return store.obtain(kind, name, make)
        folder, making = None, False
        if self.first:

            def make_together(folder: Path) -> None:
                nonlocal making
                making = self.tell(True)
                make(folder)

            folder = store.obtain(kind, name, make_together)
            if not making:
                self.tell(False)
        elif self.tell():
            with tempfile.TemporaryDirectory() as scratch:
                make(Path(scratch))
        return self.tell(folder)  # when it is published

    def wrap(self, step: nn.Module) -> nn.Module:
        """The module whose gradients are means over all processes: ``step`` itself for one."""
        return step if self.size == 1 else _Together(step)

    def hold(self, step: nn.Module) -> AbstractContextManager[None]:
        """For a backward pass of what ``wrap`` returned, behind which more gradients are added before they are sent."""
        return nullcontext() if self.size == 1 else step.no_sync()


ALONE = Ranks()


def join() -> Ranks:
    """Meet the other processes, where ``torchrun`` (or whoever sets its environment variables) started several."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE
    if "RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE is {size}, but RANK is not set: torchrun sets both. Unset WORLD_SIZE for one process"
        )
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", 0))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        # torchrun's store outlives the processes: after --max-restarts, nobody may read the addresses of the dead
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    return Ranks(rank, size, local)


class _Together(DistributedDataParallel):
    """DDP, with statistics of the global batch in every batch norm while it runs forward."""

    def __init__(self, step: nn.Module):
        # No device_ids: DDP would move a batch's index to the GPU. find_unused_parameters: heads that a method does not
        # use; and buckets are not rebuilt after the first step, so that the order of sums does not depend on the step.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has a new name for broadcast_buffers
            super().__init__(step, find_unused_parameters=True, broadcast_buffers=False)
        self.norms = [module for module in step.modules() if isinstance(module, _BatchNorm)]

    def forward(self, *inputs: Any) -> Any:
        kinds = [type(norm) for norm in self.norms]
        try:  # changed and changed back here, so that nobody else meets them: copies, state dicts, evaluation
            for norm in self.norms:
                norm.__class__ = SyncBatchNorm
            return super().forward(*inputs)
        finally:
            for norm, kind in zip(self.norms, kinds, strict=True):
                norm.__class__ = kind


class SyncBatchNorm(nn.SyncBatchNorm):
    """``nn.SyncBatchNorm``, which refuses tensors on the CPU, on any device; with the activation of timm's kind."""

    process_group = None  # all processes

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or not self.training:
            x = super().forward(x)
        else:
            mean, var, count = _moments(x.detach())
            if self.track_running_stats:
                self.num_batches_tracked += 1
                momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (count / (count - 1)), momentum)
            x = _Normalize.apply(x, self.weight, self.bias, mean, var, count, self.eps)
        return self.act(self.drop(x)) if hasattr(self, "act") else x


def _moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean, variance and count of each channel of [B, C, ...] over all processes, in float32 or better."""
    unused = x.new_zeros(2, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))  # says in which precision
    mean, var = torch.batch_norm_update_stats(x, *unused, 0.0)
    own = torch.stack([mean, var, torch.full_like(mean, x.numel() // x.shape[1])])
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, own)
    means, variances, counts = torch.stack(everyone).unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / count  # and not E[x^2] - E[x]^2, which cancels
    return mean, var, count[0].item()


class _Normalize(torch.autograd.Function):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, whose gradient knows that the moments are those of all x.

    Gradients of weight and bias are this process's own, for DDP to average. torch's kernels do the work: written with
    differentiable operations, batch norm took 3 to 7 times as long.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, count, eps):
        ctx.save_for_backward(x, weight, mean, var)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, var = ctx.saved_tensors
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([by_weight, by_bias])
        dist.all_reduce(sums)
        inverse = torch.rsqrt(var + ctx.eps)
        scale = inverse if weight is None else weight * inverse
        slope = -scale * inverse * sums[0] / ctx.count
        offset = -scale * sums[1] / ctx.count - slope * mean
        scale, slope, offset = (row.view(-1, *[1] * (x.ndim - 2)) for row in (scale, slope, offset))
        by_x = torch.addcmul(torch.addcmul(offset, x, slope), grad, scale).to(x.dtype)
        return by_x, None if weight is None else by_weight, None if weight is None else by_bias, None, None, None, None
