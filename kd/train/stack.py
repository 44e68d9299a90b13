"""Students that differ only in numbers, stacked: one forward and one backward pass for all of them.

The parameters and buffers of each student become views of tensors [S, ...], and ``torch.func`` maps the training step
of one of them over these. So everything else about a student (optimizer, clipping, moving average, checkpoints,
evaluation) is the code of a single training, which never notices that its weights are a slice.

Numbers such as a temperature or the weight of a term become vectors [S]. Nothing here knows a method: every plain
number that differs between two students is found on their modules, and what cannot be mapped is found by trying
(``kd.train.trial``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from kd.interfaces import Batch, Outputs
from kd.train.step import TrainStep

# an operation that torch maps by a loop: the trial times what it costs
warnings.filterwarnings(
    "ignore", message="There is a performance drop because we have not yet implemented the batching"
)
Slot = tuple[str, str, str | None]  # module, attribute, key if the attribute is a dict


class CannotStack(ValueError):
    """Students differ in more than numbers, or their step cannot be mapped."""


class Stack:
    """The training steps of S students as one.

    Args:
        steps: of one form, see ``form_of``; their parameters and buffers become views until ``release``.
        constant: names of buffers and frozen parameters that no step changes and that are equal in all: they stay
            single, so that a shared image stays shared up to the first learned layer.

    Raises:
        CannotStack: two students differ in something that is not a number.
    """

    def __init__(self, steps: Sequence[TrainStep], constant: frozenset[str] = frozenset()):
        self.steps, self.template = list(steps), steps[0]
        self.numbers = _differing_numbers(steps)
        parameters = [dict(step.named_parameters()) for step in steps]
        buffers = [dict(step.named_buffers()) for step in steps]
        self.parameters = {
            name: _views([p[name] for p in parameters]) for name in parameters[0] if name not in constant
        }
        self.buffers = {name: _views([b[name] for b in buffers]) for name in buffers[0] if name not in constant}
        self.learned = [name for name in self.parameters if parameters[0][name].requires_grad]
        self.leaves = [self.parameters[name].requires_grad_() for name in self.learned]
        here = {"dtype": self.leaves[0].dtype, "device": self.leaves[0].device}
        self.values = [
            torch.tensor(each, **here) for each in self.numbers.values()
        ]  # once: a copy makes the device wait
        self._views = [[p[name] for p in parameters] for name in self.learned]  # whose .grad the optimizers read
        self.gradients = [_like(leaf) for leaf in self.leaves]
        for gradient, views in zip(self.gradients, self._views, strict=True):
            for slot, view in zip(gradient, views, strict=True):
                if view.grad is not None:  # of earlier micro-batches
                    slot.copy_(view.grad)
        self._given: list[bool] | None = None  # which of the leaves have a gradient in this step

    def learn(self, batch: Batch, answer: Outputs | None, mapped: bool, share: Tensor, number: int) -> Tensor:
        """Add the gradients of one micro-batch to those of the students; return their numbers, [S, ...].

        Args:
            batch, answer: shared by all students; with ``mapped`` their tensors are [S, ...], one slice a student.
            share: the weight of the micro-batch, a scalar. number: counts the micro-batches of a step from 0.
        """
        losses, numbers = self.forward(batch, answer, mapped)
        found = torch.autograd.grad(losses, self.leaves, share.expand(len(self.steps)), allow_unused=True)
        given = [gradient is not None for gradient in found]
        if number:  # a term may be active in some micro-batches only
            given = [now or before for now, before in zip(given, self._given, strict=True)]
        if given != self._given:
            self._hand_out(given)
        mine = [buffer for buffer, gradient in zip(self.gradients, found, strict=True) if gradient is not None]
        found = [gradient for gradient in found if gradient is not None]
        (torch._foreach_add_ if number else torch._foreach_copy_)(mine, found)
        return numbers

    def forward(self, batch: Batch, answer: Outputs | None, mapped: bool) -> tuple[Tensor, Tensor]:
        """Return the losses, [S], and what ``TrainStep`` notes, [S, ...]."""
        seen, said = _tensors(batch), _tensors(answer) if answer is not None else {}

        def one(parameters: Any, buffers: Any, values: Any, seen: Any, said: Any) -> tuple[Tensor, Tensor]:
            with _replaced(self.template, dict(zip(self.numbers, values, strict=True))):
                teacher = answer._replace(**said) if answer is not None else None
                return functional_call(self.template, (parameters, buffers), (batch._replace(**seen), teacher))

        of_batch = 0 if mapped else None
        mapping = vmap(one, in_dims=(0, 0, 0, of_batch, of_batch))
        return mapping(self.parameters, self.buffers, self.values, seen, said)

    def release(self) -> None:
        """Give every student tensors of its own again, with the current values."""
        for step in self.steps:
            for tensor in (*step.parameters(), *step.buffers()):
                if tensor.untyped_storage().nbytes() > tensor.nbytes:
                    tensor.data = tensor.data.clone()
                if tensor.grad is not None:
                    tensor.grad = tensor.grad.clone()

    def _hand_out(self, given: list[bool]) -> None:
        """Point the students' ``.grad`` at the slices, or at nothing where the step did not use a parameter."""
        self._given = given
        for is_given, gradient, views in zip(given, self.gradients, self._views, strict=True):
            for slot, view in zip(gradient, views, strict=True):
                view.grad = slot if is_given else None


def form_of(step: TrainStep) -> tuple[Any, ...]:
    """Return what students in one stack have in common: modules, and the shapes of all tensors."""
    modules = tuple((name, type(module)) for name, module in step.named_modules())
    tensors = (*step.named_parameters(), *step.named_buffers())
    return modules, step.apart, tuple((name, t.shape, t.dtype, t.requires_grad) for name, t in tensors)


def constants(steps: Sequence[TrainStep], changed: frozenset[str]) -> frozenset[str]:
    """Return the names that a stack keeps single: equal in all students, without a gradient, and not in ``changed``."""
    norms = {name for name, module in steps[0].named_modules() if isinstance(module, _BatchNorm)}
    frozen = {name for name, p in steps[0].named_parameters() if not p.requires_grad}
    names = frozen | {name for name, _ in steps[0].named_buffers() if name.rpartition(".")[0] not in norms}
    every = [dict((*step.named_parameters(), *step.named_buffers())) for step in steps]
    return frozenset(
        name
        for name in names - changed
        if all(other[name] is every[0][name] or torch.equal(other[name], every[0][name]) for other in every)
    )


def map_batches(parts: Sequence[tuple[Batch, Outputs | None]]) -> tuple[Batch, Outputs | None, bool]:
    """Return batch and answer for a stack from those of its students, and whether they are mapped.

    Students of one seed share them; for others they are stacked, [S, B, ...].
    """
    batch, answer = parts[0]
    if all(other is batch for other, _ in parts):
        return batch, answer, False
    batch = _stacked([batch for batch, _ in parts])
    return batch, answer if answer is None else _stacked([answer for _, answer in parts]), True


def _stacked(parts: Sequence[Any]) -> Any:
    tensors = [_tensors(part) for part in parts]

    def one(values: Sequence[Any]) -> Any:
        return (
            torch.stack(values) if isinstance(values[0], Tensor) else tuple(map(torch.stack, zip(*values, strict=True)))
        )

    return parts[0]._replace(**{name: one([each[name] for each in tensors]) for name in tensors[0]})


def _tensors(part: Batch | Outputs) -> dict[str, Any]:
    """Return the fields that hold a tensor, or several."""
    return {
        name: value
        for name, value in part._asdict().items()
        if isinstance(value, Tensor) or (isinstance(value, tuple) and value)
    }


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def _views(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors, [S, ...], each slice in the memory order of the original, and make them views of the slices."""
    first = tensors[0]
    last = first.ndim == 4 and not first.is_contiguous() and first.is_contiguous(memory_format=torch.channels_last)
    strides = first.stride() if last else torch.empty(first.shape, device="meta").stride()
    stacked = first.new_empty_strided((len(tensors), *first.shape), (first.numel(), *strides))
    with torch.no_grad():
        for slot, tensor in zip(stacked, tensors, strict=True):
            slot.copy_(tensor)
            tensor.data = slot
    return stacked


def _differing_numbers(steps: Sequence[nn.Module]) -> dict[Slot, list[float]]:
    """Return the plain numbers in which modules of one form differ.

    Raises:
        CannotStack: they differ in other plain values (texts, lists, which parts exist).
    """
    slots: dict[Slot, list[float]] = {}
    for each in zip(*(step.named_modules() for step in steps), strict=True):
        path, owners = each[0][0], [vars(module) for _, module in each]
        for name in (name for name in owners[0] if not name.startswith("_")):
            values = [owner.get(name) for owner in owners]
            if isinstance(values[0], Mapping):
                if any(other.keys() != values[0].keys() for other in values):
                    raise CannotStack(f"{path}.{name} has other parts")
                parts = {key: [value[key] for value in values] for key in values[0]}
            else:
                parts = {None: values}
            for key, own in parts.items():
                if _differ(own):
                    if not all(type(value) in (int, float) for value in own):
                        raise CannotStack(f"{path}.{name} differs in more than a number")
                    slots[path, name, key] = own
    return slots


def _differ(values: Sequence[Any]) -> bool:
    """Whether plain values differ. Other objects count as equal: the trial finds out whether they are."""
    first, plain = values[0], (int, float, str, bool, type(None), tuple, list, dict, frozenset)
    if isinstance(first, Tensor):
        return not all(isinstance(other, Tensor) and torch.equal(other, first) for other in values)
    return any(type(other) is not type(first) and not _numbers(other, first) for other in values) or (
        isinstance(first, plain) and any(other != first for other in values)
    )


def _numbers(*values: Any) -> bool:
    return all(type(value) in (int, float) for value in values)


@contextmanager
def _replaced(module: nn.Module, values: Mapping[Slot, Any]) -> Iterator[None]:
    """Inside the block the numbers of a module are these tensors."""
    places = [(module.get_submodule(path), name, key) for path, name, key in values]
    holders = [(vars(owner), name) if key is None else (vars(owner)[name], key) for owner, name, key in places]
    before = [holder[name] for holder, name in holders]
    try:
        for (holder, name), value in zip(holders, values.values(), strict=True):
            holder[name] = value
        yield
    finally:
        for (holder, name), value in zip(holders, before, strict=True):
            holder[name] = value
