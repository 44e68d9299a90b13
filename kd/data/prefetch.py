"""Run the next task in a thread while the caller works with the result of the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Task(threading.Thread, Generic[T]):
    """One call in a thread of its own, which ends with it: nothing to shut down after an interrupt."""

    def __init__(self, call: Callable[[], T]):
        super().__init__(name="prefetch", daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.call()
        except BaseException as error:
            self.error = error

    def result(self) -> T:
        self.join()
        if self.error is not None:
            raise self.error
        return self.value


def prefetch(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the result of each call, in order; each starts when the caller asks for the result before it.

    At most two results exist at a time besides what the caller keeps. The iterable is read in the caller's thread.

    Raises:
        BaseException: what a call raised, in its place.
    """
    running = None
    for call in calls:
        following = _Task(call)
        if running:
            yield running.result()
        running = following
    if running:
        yield running.result()
