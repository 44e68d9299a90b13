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
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from kd.runtime.sync_batch_norm import SyncBatchNorm

PATIENCE = timedelta(hours=12)  # the others wait while the first fills a store, decodes images or measures latencies


@dataclass(frozen=True)
class World:
    """Which of how many processes this is, and how they speak. ``World()`` is the only one: nothing is sent.

    All of them call the same methods in the same order. Plain values travel by gloo, also where gradients go by NCCL.
    """

    rank: int = 0
    size: int = 1
    local: int = 0  # the number among those on one machine: of its GPU

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def shard(self, positions: np.ndarray) -> np.ndarray:
        """This process's slice. Slices differ by one image at most; ``share`` weighs them."""
        return np.array_split(positions, self.size)[self.rank]

    def shard_weight(self, batch_size: int) -> float:
        """The factor that makes the mean over processes of means over slices the mean over the batch; about 1.

        Raises:
            ValueError: more processes than images.
        """
        if batch_size < self.size:
            raise ValueError(f"a batch of {batch_size} images cannot be shared by {self.size} processes: start fewer")
        return self.size * len(self.shard(np.arange(batch_size))) / batch_size

    def broadcast(self, value: Any = None) -> Any:
        """Return the first one's value, to all."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box)
            (value,) = box
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return everybody's values, to all."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return everybody's values to the first; the others get none."""
        values = [value] * self.size if self.is_main else []
        if self.size > 1:
            dist.gather_object(value, values or None)
        return values

    def all_reduce_mean(self, table: Tensor) -> Tensor:
        """The mean over processes of a tensor on the CPU."""
        if self.size > 1:
            table = table / self.size
            dist.all_reduce(table)
        return table

    def all_reduce_max(self, value: int) -> int:
        """The largest of everybody's numbers, to all."""
        if self.size > 1:
            largest = torch.tensor([value])
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
            value = int(largest)
        return value

    def barrier(self) -> None:
        """Go on when all have come here."""
        self.all_reduce_mean(torch.zeros(1))  # and not dist.barrier(), which with NCCL would keep the GPUs busy waiting

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Let the first go ahead through a block that makes what it does not find; then the others, who find it."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def wrap_ddp(self, step: nn.Module) -> nn.Module:
        """The module whose gradients are means over all processes: ``step`` itself for one."""
        return step if self.size == 1 else _DDP(step)

    def no_sync(self, step: nn.Module) -> AbstractContextManager[None]:
        """For a backward pass of what ``wrap`` returned, behind which more gradients are added before they are sent."""
        return nullcontext() if self.size == 1 else step.no_sync()


SINGLE_PROCESS = World()


def init_distributed() -> World:
    """Meet the other processes, where ``torchrun`` (or whoever sets its environment variables) started several."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return SINGLE_PROCESS
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
    return World(rank, size, local)


class _DDP(DistributedDataParallel):
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
