"""Several trainings in one pass: the same steps at the same time, with one batch, one view and one teacher for all.

Students of one seed see the same batch, which is made once, and the teacher answers once. Those of one form (the same
network and terms, other numbers) may also share their forward and backward passes, as a ``Stack``. Whether that is
faster than taking the step of one after another on the shared batch depends on the device and the network: both are
timed at the start, and the faster way is taken.

Order, views and initial weights of a student depend on its own seed alone, and its random states are its own. So a
student that takes its steps in turn ends with the bits of a single training, and one in a stack with its numbers to
rounding. Each writes its own checkpoints, in the format of a single training: a pass that was killed resumes as a pass,
and each of its students can also resume alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from kd.interfaces import Batch, Outputs
from kd.runtime.console import Progress, print_line
from kd.runtime.memory import is_out_of_memory
from kd.runtime.signals import STEP_TIMEOUT, interruptible
from kd.train.joint_step import JointStep
from kd.train.meter import Ahead
from kd.train.stack import Stack, form_of, map_batches
from kd.train.training import Training
from kd.train.trial import Choice, choose, free_memory

PATIENCE = 10 * STEP_TIMEOUT  # a step of many students takes longer than one of a single training

Part = tuple[Batch, Outputs | None]


def fit_together(
    trainings: Sequence[Training],
    *,
    students: int | None = None,
    always: bool = False,
    say: Callable[[str], None] = print_line,
) -> list[dict[str, Any] | Exception]:
    """Train several networks in lock-step; each ends as ``kd.train.loop.fit`` would leave it.

    Args:
        trainings: made with ``together=True``, for one data set, batch size and number of epochs. Those of one seed
            must have the same teacher, and those with one stream of batches share them.
        students: students of a stack at most; None: as many as memory holds.
        always: stack without timing.
        say: gets a line for each form, with both figures, and the lines of the progress.

    Returns:
        For each training what ``fit`` returns, or the error that ended it. The others continue without it.

    Raises:
        KeyboardInterrupt: the process received a signal; each student that is between two steps has a checkpoint.
        ValueError: the trainings do not fit together.
    """
    lengths = {(t.recipe.epochs, t.loader.steps, t.loader.batch_size, t.loader.grad_accum_steps) for t in trainings}
    if len(lengths) > 1:
        raise ValueError(f"one pass needs one number of epochs, steps, images and micro-batches, got {sorted(lengths)}")
    return _Pass(trainings, students, always, say).run()


class _Pass:
    """Trainings in lock-step: those that still take part, and the blocks in which they take their steps."""

    def __init__(self, trainings: Sequence[Training], students: int | None, always: bool, say: Callable[[str], None]):
        self.all, self.students, self.always, self.say = list(trainings), students, always, say
        self.active = [training for training in trainings if not training.is_over]
        self.errors: dict[Training, Exception] = {}
        self.blocks: list[_Block] = []
        self.joint: tuple[list[Training], JointStep] | None = None  # of these trainings

    def run(self) -> list[dict[str, Any] | Exception]:
        with self._stop_on_interrupt():
            self._catch_up()
            if self.active:
                self._train()
        for block in self.blocks:
            block.release()
        return [self.errors.get(training) or training.finish() for training in self.all]

    def _train(self) -> None:
        lead = self.active[0]
        (epoch, step), steps = lead.position, lead.loader.steps
        progress = Progress(self._title(), lead.recipe.epochs, steps, epoch - 1, step)
        while self.active and not self.active[0].is_over:
            self._train_epoch(progress)
        progress.close()

    def _train_epoch(self, progress: Progress) -> None:
        lead = self.active[0]
        if any([training.begin_epoch() for training in self.active]):  # all of them
            for block in self.blocks:
                block.release()
            self.blocks = []  # other parameters learn now: the students are of other forms
        epoch, start = lead.position
        streams = _Streams(self.active, epoch, start)
        self._each(lambda training: _begin_measuring(training, partial(streams.look_ahead, training)))
        if not self.active:
            return
        for step in range(start, lead.loader.steps):
            done = lead.share_done(step)
            for training in self.active:
                training.begin_step(done)
            for number in range(lead.loader.grad_accum_steps):
                parts = streams.next(done)
                if not self.blocks:
                    self._choose(parts)
                self._learn(parts, number)
            self._each(Training.clip)
            self._take_step()
            self._each(lambda training, step=step: training.after_step(step))
            self._each(lambda training: training.manager.on_step_end())
            if not self.active:
                return
            progress.step(len(self.active) * lead.loader.batch_size)
        self._each(_end_epoch)
        if self.active:
            rows = [training.state.rows[-1] for training in self.active]
            picked = f"val_{self.active[0].pick_by}"
            losses, shares = [row["loss"] for row in rows], [100 * row[picked] for row in rows]
            scores = f"loss {min(losses):.3f} to {max(losses):.3f}  val {min(shares):.1f} to {max(shares):.1f} %"
            progress.on_epoch_end(scores, progress.rate()["images_per_s"])

    def _take_step(self) -> None:
        """Step the optimizers of all."""
        if self.joint is None or self.joint[0] != self.active:
            self.joint = list(self.active), JointStep(self.active)
        self.joint[1].step()

    def _learn(self, parts: dict[Training, Part], number: int) -> None:
        """Let every block take a micro-batch; halve a stack that has no memory for it."""
        for training in self.active:
            if training.meter.is_due(number):
                with training.own_randomness():
                    training.meter.look(*parts[training])
        waiting = list(self.blocks)
        self.blocks = []
        while waiting:
            block = waiting.pop(0)
            try:
                block.learn(parts, number)
                self.blocks.append(block)
                continue
            except Exception as error:
                halves = block.halves() if is_out_of_memory(error) else []
                if not halves:
                    block.release()
                    self._drop(block.trainings, error)
            if halves:
                free_memory(block.trainings[0].device)
                self.say(f"one pass: {len(block.trainings)} students do not fit in memory at once: halving the stack")
                waiting = halves + waiting

    def _drop(self, trainings: Sequence[Training], error: Exception) -> None:
        """End trainings with an error."""
        for training in trainings:
            self.errors[training] = error
            self.active.remove(training)

    def _each(self, act: Callable[[Training], None]) -> None:
        """Act on every training; one that fails is left out from then on, and an interruption waits for the last."""
        interrupted: KeyboardInterrupt | None = None
        for training in list(self.active):
            try:
                act(training)
            except KeyboardInterrupt as interruption:
                interrupted = interruption
            except Exception as error:
                self._drop([training], error)
                self.blocks = [part for block in self.blocks for part in block.without(training)]
        if interrupted:
            raise interrupted

    def _choose(self, parts: dict[Training, Part]) -> None:
        """Divide the trainings into blocks: stacks where that is faster."""
        forms: dict[Any, list[Training]] = {}
        for training in self.active:
            forms.setdefault((form_of(training.train_step), parts[training][0].image.shape), []).append(training)
        for members in forms.values():
            size, constant = 1, frozenset()
            if len(members) > 1:
                choice = choose(
                    [training.train_step for training in members],
                    [parts[training] for training in members],
                    self.students,
                    self.always,
                )
                size, constant = choice.size, choice.constant
                shared = self._seconds_shared(members[0]) if choice.in_turn else 0.0
                self.say(describe(choice, len(members), shared))
            self.blocks += [_Block(members[start : start + size], constant) for start in range(0, len(members), size)]

    def _seconds_shared(self, lead: Training) -> float:
        """Measure what the students of one seed share in a step: its batch, its views and the teacher's answer."""
        _Streams([lead], lead.state.epoch, 0).next(0.5)  # warms up
        streams = _Streams([lead], lead.state.epoch, 0)
        lead.device.synchronize()
        began = time.perf_counter()
        streams.next(0.5)
        lead.device.synchronize()
        return time.perf_counter() - began

    def _catch_up(self) -> None:
        """After a kill some students may have a later checkpoint than others: train those behind alone up to it."""
        latest = max((training.position for training in self.active), default=(0, 0))
        for training in list(self.active):
            if training.position < latest:
                try:
                    with training.own_randomness():
                        while training.position < latest:
                            training.train_epoch(latest[1] if training.position[0] == latest[0] else None)
                except Exception as error:
                    self._drop([training], error)

    @contextmanager
    def _stop_on_interrupt(self) -> Iterator[None]:
        with interruptible(PATIENCE):
            try:
                yield
            except KeyboardInterrupt:
                whole = [training for training in self.active if training.manager.whole]
                for training in whole:
                    if training.manager.checkpoints and not training.manager.kept:
                        training.manager.write()
                if whole:
                    self.say(f"{self._title()}: stopped after {whole[0].manager.where()}; checkpoints saved")
                raise

    def _title(self) -> str:
        return f"{len(self.active)} students"


class _Block:
    """Trainings that take their steps at once, as a ``Stack``; a single one takes its own."""

    def __init__(self, trainings: Sequence[Training], constant: frozenset[str]):
        self.trainings, self.constant = list(trainings), constant
        self.stack: Stack | None = None

    def learn(self, parts: dict[Training, Part], number: int) -> None:
        """Add the gradients of a micro-batch, and note the results.

        Raises:
            Exception: whatever the step raises; the buffers of a stack are then as before.
        """
        if len(self.trainings) == 1:
            (training,) = self.trainings
            with training.own_randomness():
                training.learn(*parts[training], number)
            return
        if self.stack is None:
            self.stack = Stack([training.train_step for training in self.trainings], self.constant)
        before = {name: value.clone() for name, value in self.stack.buffers.items()}
        try:
            batch, answer, mapped = map_batches([parts[training] for training in self.trainings])
            share = self.trainings[0].shares[number]
            with self.trainings[0].device.turns():
                numbers = self.stack.learn(batch, answer, mapped, share, number)
        except Exception:
            for name, value in before.items():
                self.stack.buffers[name].copy_(value)
            raise
        for training, noted in zip(self.trainings, (share * numbers).unbind(), strict=True):
            training.record(noted, number)

    def halves(self) -> list[_Block]:
        """Return two blocks in place of this one; none if it is a single training."""
        if len(self.trainings) == 1:
            return []
        self.release()
        half = len(self.trainings) // 2
        return [_Block(part, self.constant) for part in (self.trainings[:half], self.trainings[half:])]

    def without(self, training: Training) -> list[_Block]:
        """Return the blocks that remain without a training."""
        if training not in self.trainings:
            return [self]
        self.release()
        rest = [other for other in self.trainings if other is not training]
        return [_Block(rest, self.constant)] if rest else []

    def release(self) -> None:
        if self.stack:
            self.stack.release()
            self.stack = None


class _Streams:
    """The batches of an epoch: one stream for each seed, made once for all students that share it."""

    def __init__(self, trainings: Sequence[Training], epoch: int, start: int):
        self.of = {training: training.loader.stream for training in trainings}
        self.lead = {stream: training for training, stream in reversed(self.of.items())}
        self.parts = {stream: _parts_of(lead, epoch, start) for stream, lead in self.lead.items()}

    def look_ahead(self, training: Training, count: int) -> list[Part]:
        """Return the next micro-batches of a training, which ``next`` returns again."""
        return self.parts[self.of[training]].look_ahead(count)

    def next(self, done: float) -> dict[Training, Part]:
        """Return the next micro-batch of each training, with its teacher's answer."""
        parts = {}
        for stream in self.lead:
            batch, answer = next(self.parts[stream])
            parts[stream] = batch._replace(progress=done), answer
        return {training: parts[stream] for training, stream in self.of.items()}


def _parts_of(lead: Training, epoch: int, start: int) -> Ahead:
    return Ahead((batch, lead.answer(batch)) for batch in lead.loader.epoch(epoch, start=start))


def _begin_measuring(training: Training, look_ahead: Callable[[int], list[Part]]) -> None:
    with training.own_randomness():
        training.meter.begin(look_ahead)


def _end_epoch(training: Training) -> None:
    with training.own_randomness():
        training.end_epoch()


def describe(choice: Choice, count: int, shared: float) -> str:
    """Return the line about how the students of one form take their steps, and why.

    Args:
        shared: seconds that data and teacher take for a batch, once for all in a pass, and for each outside it.
    """
    if choice.reason:
        return f"one pass: {count} students share data and teacher and take their steps in turn ({choice.reason})"
    if not choice.in_turn:
        return f"one pass: {count} students in stacks of {choice.size}, not timed"
    ways = {"one after another": choice.in_turn + shared, "in turn": choice.in_turn + shared / count}
    ways["stacked"] = choice.stacked + shared / count
    figures = ", ".join(f"{1000 * count * seconds:.0f} ms {way}" for way, seconds in ways.items())
    chosen = f"in stacks of {choice.size}" if choice.size > 1 else "in turn"
    return f"one pass: a step of {count} students takes {figures}: they train {chosen}"
