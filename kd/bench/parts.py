"""Where the time of a training goes: data, teacher, student forward, backward, optimiser, validation, other.

The stopwatches sit outside of the programs: on the methods of the networks that a job owns, on ``Tensor.backward``, on
torch's hooks of every optimiser and on the iterators of its DataLoader. So every program is measured in the same way,
and none is changed. They cost time (a device is waited for at both ends of a part), so a job is measured like this in a
round of its own, which counts for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import dataloader

PARTS = ("data", "teacher", "student forward", "backward", "optimiser", "validation", "other")
VALIDATION = "validation"


class Parts:
    """Seconds by part. A part within another counts only as itself; within validation, all is validation.

    Args:
        synchronize: waits for the device.
    """

    def __init__(self, synchronize: Callable[[], None]):
        self.synchronize = synchronize
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._open = ["other"]  # the innermost last
        self._since = time.perf_counter()

    def begin(self, part: str) -> None:
        self._charge()
        self._open.append(VALIDATION if VALIDATION in self._open else part)

    def end(self) -> None:
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function``, whose calls count as ``part``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.begin(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.end()

        return call

    def iterated(self, part: str, function: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
        """Return ``function``, which returns an iterable: making its next item counts as ``part``."""

        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = iter(function(*args, **kwargs))
            following = self.timed(part, lambda: next(items, items))
            while (item := following()) is not items:
                yield item

        return call

    def whole(self, part: str, function: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
        """Return ``function``, which returns an iterable: the time from its start to its end counts as ``part``."""

        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            self.begin(part)
            try:
                yield from function(*args, **kwargs)
            finally:
                self.end()

        return call

    def on_calls(self, part: str, module: nn.Module, *methods: str) -> None:
        """Count the calls of these methods of one module as ``part``."""
        for method in methods:
            setattr(module, method, self.timed(part, getattr(module, method)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch every backward pass, optimiser and DataLoader inside, and begin at 0."""
        backward, following = torch.Tensor.backward, dataloader._BaseDataLoaderIter.__next__
        hooks = [
            register_optimizer_step_pre_hook(lambda *_: self.begin("optimiser")),
            register_optimizer_step_post_hook(lambda *_: self.end()),
        ]
        torch.Tensor.backward = self.timed("backward", backward)
        dataloader._BaseDataLoaderIter.__next__ = self.timed("data", following)
        self.synchronize()
        self.seconds, self._since = dict.fromkeys(PARTS, 0.0), time.perf_counter()
        try:
            yield
        finally:
            self._charge()
            torch.Tensor.backward, dataloader._BaseDataLoaderIter.__next__ = backward, following
            for hook in hooks:
                hook.remove()
