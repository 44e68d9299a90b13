"""Whether students can be stacked, and whether that pays: both are tried, on copies.

The trial of correctness runs in float64, where a wrong mapping differs in the first digits and rounding in the last:
each student's own step and the stacked one must agree in loss, gradients and buffers. The trial of speed uses the batch
and the precision of the training.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kd.interfaces import Batch, Outputs
from kd.runtime.device import Device
from kd.runtime.errors import first_line
from kd.runtime.memory import is_out_of_memory
from kd.runtime.rng import random_states, restore_random_states
from kd.train.objective import Objective
from kd.train.stack import CannotStack, Stack, constants, map_batches
from kd.train.step import TrainStep

TOLERANCE = 1e-9  # of float64, relative to the largest entry; rounding is below 1e-12
SMALLEST = 1e-4  # share of the largest gradient below which another is compared with that share
IMAGES = 8  # of a batch in the trial of correctness
STUDENTS = 4  # at most, in the trial of correctness
REPEATS = 2  # timed steps, after one that warms up
SMALL = 4  # students of the stack that is timed first
SLOWER = 1.2  # times a student alone: a small stack as slow as that makes a larger one useless
SLOWER_ON_FEW = 1.5  # times as slow on a few images: on more it would be slower still
HOPELESS = 4  # times as slow in its first step, which warms up: not timed further
MOST_ON_CPU = 16  # students of a stack: more gained nothing, and a CPU without memory ends the process

Part = tuple[Batch, Outputs | None]


class Choice(NamedTuple):
    """How the students of one form take their steps."""

    size: int  # students of a stack; 1: each takes its own step, in turn
    constant: frozenset[str] = frozenset()  # of ``Stack``
    reason: str = ""  # why they cannot be stacked
    in_turn: float = 0.0  # measured seconds of a step for one student alone; 0: not measured
    stacked: float = 0.0  # measured seconds of a step for one student in the best stack


def choose(steps: Sequence[TrainStep], parts: Sequence[Part], most: int | None = None, always: bool = False) -> Choice:
    """Return how students of one form should take their steps.

    Args:
        parts: batch and answer for each student; equal objects for students that share them.
        most: students of a stack at most; None: as many as memory holds.
        always: take the largest stack even if it is slower.
    """
    device = steps[0].device.device
    before = random_states(device)
    limit = min(most or (len(steps) if device.type != "cpu" else MOST_ON_CPU), len(steps))
    timed: dict[int, float] = {}  # seconds a student, by the size of the stack
    own = 0.0
    if steps[0].apart:
        return Choice(1, reason="their gradients are kept apart")
    if limit < 2:
        return Choice(1, reason="stacks of one student")
    try:
        if not always:
            refuse_hopeless(steps, parts)
        constant = check_stack(steps, parts)
        if not always:
            own = _seconds_of(steps[:1], parts[:1], None)
        for size in [limit] if always else sorted({min(SMALL, limit), limit}):
            if timed and min(timed.values()) > SLOWER * own:
                break  # a larger stack takes seconds to try
            while size > max(timed, default=1):
                seconds = _seconds_of(steps[:size], parts[:size], constant, HOPELESS * size * own)
                if seconds is not None:
                    timed[size] = seconds / size
                    break
                size //= 2  # it does not fit in memory
    except CannotStack as error:
        return Choice(1, reason=str(error))
    finally:
        restore_random_states(before, device)
    if not timed:
        return Choice(1, constant, "two students do not fit in memory at once")
    best = max(timed) if always else min(timed, key=timed.get)
    size = best if always or timed[best] < own else 1
    return Choice(size, constant, in_turn=own, stacked=timed[best])


def refuse_hopeless(steps: Sequence[TrainStep], parts: Sequence[Part]) -> None:
    """Time a stack of two on a few images: a short look where the other trials would take seconds.

    The fewer the images, the better for a stack, which saves the time that an operation takes to begin.

    Raises:
        CannotStack: the stack is slower.
    """
    few = [_few(part) for part in parts[:2]]
    if parts[0][0] is parts[1][0]:
        few[1] = few[0]
    own = _seconds_of(steps[:1], few[:1], None)
    pair = _seconds_of(steps[:2], few, frozenset(), HOPELESS * 2 * own)
    if pair and pair > SLOWER_ON_FEW * 2 * own:
        ratio = pair / (2 * own)
        raise CannotStack(f"a stack of two took {ratio:.1f} times as long, on {len(few[0][0].image)} images")


def check_stack(steps: Sequence[TrainStep], parts: Sequence[Part]) -> frozenset[str]:
    """Compare a stacked step with each student's own, on copies in float64; return the ``constant`` of ``Stack``.

    Raises:
        CannotStack: they disagree, or the step cannot be mapped; says where.
    """
    chosen = range(0, len(steps), -(-len(steps) // STUDENTS))
    shared = {id(parts[number][0]): _small(parts[number], steps[0].device) for number in chosen}
    parts = [shared[id(parts[number][0])] for number in chosen]
    alone, together = ([_double(steps[number]) for number in chosen] for _ in range(2))
    before = [_buffers(step) for step in alone]
    points = midpoints(alone[0].objective)
    try:
        expected = [[_own(step, _at(part, done)) for step, part in zip(alone, parts, strict=True)] for done in points]
        after = [_buffers(step) for step in alone]
        changed = {
            name
            for old, new in zip(before, after, strict=True)
            for name in old
            if not torch.equal(old[name], new[name])
        }
        constant = constants(alone, frozenset(changed))
        stack = Stack(together, constant & constants(together, frozenset(changed)))
        one = torch.ones((), dtype=torch.float64, device=stack.leaves[0].device)
        for done, own in zip(points, expected, strict=True):
            batch, answer, mapped = map_batches([_at(part, done) for part in parts])
            numbers = stack.learn(batch, answer, mapped, one, 0)
            for step, (noted, gradients), line in zip(together, own, numbers, strict=True):
                _compare("the loss", line, noted)
                largest = max(_size(gradient) for gradient in gradients.values())
                for name, p in step.named_parameters():
                    _compare(f"the gradient of {name}", p.grad, gradients[name], largest)
        for step, buffers in zip(together, after, strict=True):
            for name, value in _buffers(step).items():
                _compare(name, value, buffers[name])
    except CannotStack:
        raise
    except Exception as error:  # whatever a method or a network does that cannot be mapped
        if is_out_of_memory(error):
            raise CannotStack("two students do not fit in memory at once") from error
        raise CannotStack(first_line(error)) from error
    return constant


def midpoints(objective: Objective) -> list[float]:
    """Return shares of the training between the ends of all schedules: at each, other terms may be active."""
    ends = {0.0, 1.0, *(part.get(end, 0.0) for part in objective.schedule.values() for end in ("start", "end", "rise"))}
    ends = sorted(end for end in ends if 0 <= end <= 1)
    return [(low + high) / 2 for low, high in zip(ends, ends[1:], strict=False)]


def _double(step: TrainStep) -> TrainStep:
    """Return a copy in float64, on a device that has it."""
    place = _exact_device(step.device)
    double = copy.deepcopy(step).to(place.device, torch.float64)
    double.device = place
    for p in double.parameters():
        p.grad = None
    return double


def _exact_device(device: Device) -> Device:
    here = torch.device("cpu") if device.device.type == "mps" else device.device
    return replace(device, device=here, precision=torch.float32)


def _few(part: Part) -> Part:
    """Return the first images of a batch, with all their views, and their answer."""
    (batch, answer), weight = part, part[0].class_weight

    def first(value: Tensor) -> Tensor:
        return value.unflatten(0, (batch.views, -1))[:, :IMAGES].flatten(0, 1)

    few = _each_tensor(batch._replace(class_weight=None), first)._replace(class_weight=weight)
    return few, answer and _each_tensor(answer, first)


def _small(part: Part, device: Device) -> Part:
    """Return the first images of a batch and their answer, in float64."""
    here = _exact_device(device).device

    def exact(value: Tensor) -> Tensor:
        value = value.to(here) if value.device.type != "cpu" else value
        return value.double() if value.is_floating_point() else value

    batch, answer = _few(part)
    return _each_tensor(batch, exact), answer and _each_tensor(answer, exact)


def _each_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch or an answer with every tensor changed, those in tuples too."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return change(value) if isinstance(value, Tensor) else value

    return part._replace(**{name: changed(value) for name, value in part._asdict().items()})


def _at(part: Part, done: float) -> Part:
    return part[0]._replace(progress=done), part[1]


def _own(step: TrainStep, part: Part) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return what a student's own step notes, and its gradients."""
    loss, noted = step(*part)
    learned = {name: p for name, p in step.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
    gradients = dict.fromkeys(name for name, _ in step.named_parameters())
    return noted, gradients | dict(zip(learned, found, strict=True))


def _buffers(step: TrainStep) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in step.named_buffers()}


def _compare(what: str, found: Tensor | None, right: Tensor | None, largest: float = 1.0) -> None:
    """Refuse a tensor that differs by more than rounding.

    Args:
        largest: entry of all such tensors. The gradient of a bias in front of a batch norm is 0 but for the rounding of
            the others, so a tensor of much smaller entries is compared with this.
    """
    if (found is None) != (right is None):
        raise CannotStack(f"{what} is missing in one of the two ways")
    if right is None:
        return
    most = TOLERANCE * max(_size(right), SMALLEST * largest)
    apart = _size(found.detach().double() - right.detach().double())
    if not apart <= most:  # NaN, too
        raise CannotStack(f"{what} would differ")


def _size(tensor: Tensor | None) -> float:
    return tensor.detach().abs().max().item() if tensor is not None and tensor.numel() else 0.0


def _seconds_of(
    steps: Sequence[TrainStep], parts: Sequence[Part], constant: frozenset[str] | None, hopeless: float = 0.0
) -> float | None:
    """Measure a step of copies, stacked or (without ``constant``) of one student alone; None: no memory for it.

    Args:
        hopeless: seconds of the first step after which there is no second one; 0: no limit.
    """
    copies = [copy.deepcopy(step) for step in steps]
    share = torch.ones((), device=copies[0].device.device)
    try:
        if constant is None:
            return _seconds(lambda: copies[0](*parts[0])[0].backward(share), steps[0].device)
        stack = Stack(copies, constant)

        def take() -> None:
            batch, answer, mapped = map_batches(parts)
            stack.learn(batch, answer, mapped, share, 0)

        return _seconds(take, steps[0].device, hopeless)
    except Exception as error:
        if not is_out_of_memory(error):
            raise CannotStack(first_line(error)) from error
    free_memory(copies[0].device)  # after the handler, which drops the error and the tensors that its frames hold
    return None


def free_memory(device: Device) -> None:
    """Return memory that an error left behind to the device."""
    gc.collect()
    if device.device.type == "cuda":
        torch.cuda.empty_cache()


def _seconds(run: Callable[[], object], device: Device, hopeless: float = 0.0) -> float:
    """Return the shortest duration of a few calls, after one that warms up."""

    def timed() -> float:
        device.synchronize()
        began = time.perf_counter()
        with device.turns():
            run()
        device.synchronize()
        return time.perf_counter() - began

    first = timed()
    return first if 0 < hopeless < first else min(timed() for _ in range(REPEATS))
