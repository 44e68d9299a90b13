"""One run in several processes, on one machine or more, with torch's DDP: ``torchrun --nproc_per_node=N -m kd.run …``.

Every process holds whole networks and takes a slice of each global batch. The slice holds what one process would see:
order and views are functions of (seed, epoch, index), and batch norm takes its statistics over the global batch. Only
the order in which numbers are added differs. So neither N nor the machine is in any key: one process reuses a run that
two processes made, although its own result would differ a little.

Dependent on N are: the masks of dropout (each process draws its own), terms that compare the images of a batch with
each other (each process sees only its slice; CRD's memories see all), running statistics of terms (OFD's margins), and
batch norms that are not subclasses of ``nn.BatchNorm``.
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

TIMEOUT = timedelta(
    hours=12
)  # the others wait while the main process fills a store, decodes images or measures latencies


@dataclass(frozen=True)
class World:
    """Rank, world size and collective operations. ``World()`` is a single process: nothing is sent.

    All processes must call the same methods in the same order. Plain values travel by gloo, gradients on GPUs by NCCL.
    """

    rank: int = 0
    size: int = 1
    local: int = 0  # rank among the processes of this machine, and index of its GPU

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes and prints."""
        return self.rank == 0

    def shard(self, positions: np.ndarray) -> np.ndarray:
        """Return this process's slice. Slices differ by one image at most; ``shard_weight`` corrects for that."""
        return np.array_split(positions, self.size)[self.rank]

    def shard_weight(self, batch_size: int) -> float:
        """Return the factor, about 1, with which the mean over processes of slice means is the mean over the batch.

        Raises:
            ValueError: more processes than images.
        """
        if batch_size < self.size:
            raise ValueError(f"a batch of {batch_size} images cannot be shared by {self.size} processes; start fewer")
        return self.size * len(self.shard(np.arange(batch_size))) / batch_size

    def broadcast(self, value: Any = None) -> Any:
        """Return the main process's value, on all processes."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box)
            (value,) = box
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, on all processes."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes on the main process; an empty list on the others."""
        values = [value] * self.size if self.is_main else []
        if self.size > 1:
            dist.gather_object(value, values or None)
        return values

    def all_reduce_mean(self, table: Tensor) -> Tensor:
        """Return the mean over processes of a tensor on the CPU."""
        if self.size > 1:
            table = table / self.size
            dist.all_reduce(table)
        return table

    def all_reduce_max(self, value: int) -> int:
        """Return the largest number of all processes, on all processes."""
        if self.size > 1:
            largest = torch.tensor([value])
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
            value = int(largest)
        return value

    def barrier(self) -> None:
        """Wait until all processes have arrived."""
        self.all_reduce_mean(torch.zeros(1))  # and not dist.barrier(), which with NCCL would keep the GPUs busy waiting

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block on the main process first, then on the others, which reuse what it made."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def wrap_ddp(self, step: nn.Module) -> nn.Module:
        """Return a module whose gradients are means over all processes: ``step`` itself in a single process."""
        return step if self.size == 1 else _DDP(step)

    def no_sync(self, step: nn.Module) -> AbstractContextManager[None]:
        """Inside the block a backward pass of ``wrap_ddp``'s module only adds gradients; a later one sends the sum."""
        return nullcontext() if self.size == 1 else step.no_sync()


SINGLE_PROCESS = World()


def init_distributed() -> World:
    """Connect to the other processes, if ``torchrun`` or a launcher with its environment variables started several."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return SINGLE_PROCESS
    if "RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE is {size}, but RANK is not set: torchrun sets both. Unset WORLD_SIZE to run a single process"
        )
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", 0))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        # torchrun's store outlives the processes: a restarted attempt must not read the addresses of the previous one
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
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
        try:  # only inside this call, so that copies, state dicts and evaluation never see the other class
            for norm in self.norms:
                norm.__class__ = SyncBatchNorm
            return super().forward(*inputs)
        finally:
            for norm, kind in zip(self.norms, kinds, strict=True):
                norm.__class__ = kind
