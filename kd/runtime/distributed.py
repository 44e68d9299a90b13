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

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.utils import _sync_module_states
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from kd.runtime.sync_batch_norm import SyncBatchNorm

# the others wait by gloo while the main process fills a store, decodes images or measures latencies
TIMEOUT = timedelta(hours=12)
LARGEST_BUCKET = 25 * 2**20  # bytes of gradients that are sent together where DDP does not send them
FIRST_BUCKET = 2**20  # bytes of gradients that DDP sends together, before the first 25 MB
GPU_TIMEOUT = timedelta(minutes=30)  # of NCCL, which waits for gradients, with every GPU at 100 %


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

    def wrap_ddp(self, step: nn.Module) -> Callable[..., Any]:
        """Return ``step`` with gradients that are means over all processes: ``step`` itself in a single process.

        Args:
            step: returns the loss, and more.
        """
        return step if self.size == 1 else DistributedStep(step, self)

    def wrap_synced(self, step: nn.Module) -> Callable[..., Any]:
        """Return ``step`` with batch norms of the global batch, of whose gradients nothing is sent: see ``average``."""
        return step if self.size == 1 else SyncedStep(step)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device by their means over all processes, which have the same number and shapes."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            waiting = [tensor for tensor in tensors if tensor.dtype == dtype]
            while waiting:
                sizes = itertools.accumulate(tensor.nbytes for tensor in waiting)
                count = max(1, sum(size <= LARGEST_BUCKET for size in sizes))
                bucket, waiting = waiting[:count], waiting[count:]
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket]).div_(self.size)
                dist.all_reduce(flat)
                for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                    tensor.copy_(mean.view(tensor.shape))

    def no_sync(self, step: Callable[..., Any]) -> AbstractContextManager[None]:
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
        several_gpus = torch.cuda.is_available() and dist.is_nccl_available()  # NCCL is not on Windows
        backend = "cpu:gloo,cuda:nccl" if several_gpus else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        # torchrun's store outlives the processes: a restarted attempt must not read the addresses of the previous one
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        if several_gpus:
            limit_waiting("cuda", GPU_TIMEOUT)
    return World(rank, size, local)


def limit_waiting(device: str, timeout: timedelta) -> None:
    """Set the time limit of one kind of device's collectives; torch has a single one for all kinds at the start."""
    dist.distributed_c10d._get_default_group()._get_backend(torch.device(device))._set_default_timeout(timeout)


def end_distributed() -> None:
    """Leave the other processes after a run that all of them finished: NCCL warns if a process ends without it.

    Not after an error: NCCL may then wait for ever for a process that has gone.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class DistributedStep:
    """``step`` under DDP, with statistics of the global batch in every batch norm while it runs forward.

    The first call of a small step looks whether the loss depends on every parameter. If it does, DDP need not look
    again in each step, which costs a walk over the graph and one more collective. It does not where a method leaves a
    head unused, and it may not in later steps where a term has a ``schedule``.
    """

    def __init__(self, step: nn.Module, world: World):
        self.inner, self.world = _Once(step), world
        self.norms = [module for module in step.modules() if isinstance(module, _BatchNorm)]
        self.sends = True
        self._wrap(init_sync=True)

    def __call__(self, *inputs: Any) -> Any:
        if not self.is_decided:
            self._decide(inputs)
        with global_statistics(self.norms), nullcontext() if self.sends else self.ddp.no_sync():
            return self.ddp(*inputs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backward passes of calls inside the block add gradients without sending them."""
        self.sends = False
        try:
            yield
        finally:
            self.sends = True

    def renew(self) -> None:
        """Send the gradients of the parameters that require one from here on, on all processes; others get none."""
        self.ddp.reducer._remove_autograd_hooks()
        del self.ddp  # and its memory
        self._wrap(init_sync=False)

    def _wrap(self, init_sync: bool) -> None:
        step = self.inner.step
        # a larger step has several buckets; DDP sends them in the right order, and always in the same, only if it looks
        is_large = sum(p.nbytes for p in step.parameters() if p.requires_grad) >= FIRST_BUCKET
        self.is_decided = is_large or any(getattr(module, "schedule", None) for module in step.modules())
        self.ddp = _DDP(self.inner, find_unused_parameters=True, init_sync=init_sync)

    def _decide(self, inputs: tuple[Any, ...]) -> None:
        """Run the first step forward, and replace DDP by a quicker one if its loss depends on every parameter."""
        self.is_decided = True
        with global_statistics(self.norms):
            self.inner.output = self.inner.step(*inputs)
        some_unused = not reaches(self.inner.output[0], (p for p in self.inner.parameters() if p.requires_grad))
        if self.world.all_reduce_max(int(some_unused)):
            return
        self.ddp.reducer._remove_autograd_hooks()
        del self.ddp  # and its memory
        self.ddp = _DDP(self.inner, find_unused_parameters=False, init_sync=False)  # the first one made all alike


class SyncedStep:
    """``step`` with statistics of the global batch in every batch norm while it runs forward, and without DDP."""

    def __init__(self, step: nn.Module):
        self.step = step
        self.norms = [module for module in step.modules() if isinstance(module, _BatchNorm)]
        _sync_module_states(step, dist.distributed_c10d._get_default_group(), LARGEST_BUCKET, 0, [])

    def __call__(self, *inputs: Any) -> Any:
        with global_statistics(self.norms):
            return self.step(*inputs)

    def no_sync(self) -> AbstractContextManager[None]:
        return nullcontext()

    def renew(self) -> None:
        """Nothing to do: ``World.average`` gets the gradients that are there."""


@contextmanager
def global_statistics(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Make batch norms global inside the block alone: copies, state dicts and evaluation never see that class."""
    kinds = [type(norm) for norm in norms]
    try:
        for norm in norms:
            norm.__class__ = SyncBatchNorm
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind


class _Once(nn.Module):
    """``step``, which returns ``output`` once in place of running, if it is set."""

    def __init__(self, step: nn.Module):
        super().__init__()
        self.step, self.output = step, None

    def forward(self, *inputs: Any) -> Any:
        output, self.output = self.output, None
        return self.step(*inputs) if output is None else output


class _DDP(DistributedDataParallel):
    """DDP whose buckets never change, so that the order of sums does not depend on the step: a resumed training is
    equal to the bit.

    By default DDP puts gradients into other buckets after the first step, unless it looks for unused parameters.
    """

    def __init__(self, step: nn.Module, find_unused_parameters: bool, init_sync: bool = True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has a new name for broadcast_buffers
            super().__init__(  # no device_ids: DDP would move a batch's index to the GPU
                step,
                find_unused_parameters=find_unused_parameters,
                broadcast_buffers=False,
                init_sync=init_sync,
            )
        if not find_unused_parameters:  # make the final buckets now, with the parameters in their order
            self.reducer._push_all_rebuilt_params()
            self.reducer._rebuild_buckets()


def reaches(loss: Tensor, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether the graph of ``loss`` contains every parameter."""
    missing, seen, waiting = {id(p) for p in parameters}, set(), [loss.grad_fn]
    while waiting and missing:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        missing.discard(id(getattr(node, "variable", None)))
        waiting += [next_node for next_node, _ in node.next_functions]
    return not missing
