"""Ctrl-C, SIGTERM (what Slurm and Kubernetes send before they kill) and SIGHUP (of a terminal that is closed; nohup
withholds it): the end within two seconds, nothing lost.

All end in ``KeyboardInterrupt``. While a network is trained it is raised between two steps, behind a checkpoint; a
second Ctrl-C, or a step of more than a second, raises it at once, and the last checkpoint stands.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 1.0  # seconds that a step may take to its end
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
LEADER = "KD_SWEEP_PID"  # the environment variable with the id of the process that began a sweep
FOLLOWING = 1.0  # seconds between two looks for the parent

_asked: int | None = None  # the signal that came
_between_steps = False  # whether somebody looks for it
_patience = PATIENCE
_following = False  # whether a thread watches the parent
_hurry = True  # whether that may take no longer than ``_patience``


def install_handlers() -> None:
    """Take over the signals where nobody else has; in the main thread of a command, not in a library's."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _note)


def received_signal() -> int | None:
    """The signal that came, if one did."""
    return _asked


@contextmanager
def defer_signals() -> Iterator[None]:
    """For the time that it takes to write a checkpoint: a signal waits for the end of it.

    Raises:
        KeyboardInterrupt: behind it, where ``listen`` was not called (a notebook, a launcher's worker). Raised inside
            of ``torch.save`` it may abort the process.
    """
    global _hurry
    _hurry, late = False, []
    _alarm(0)
    main = threading.current_thread() is threading.main_thread()
    theirs = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if theirs:
        signal.signal(signal.SIGINT, lambda *_: late.append(True))
    try:
        yield
    finally:
        _hurry = True
        _alarm(_patience)
        if theirs:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if late:
        raise KeyboardInterrupt


@contextmanager
def interruptible(patience: float) -> Iterator[None]:
    """For the time of a training that calls ``asked`` between its steps.

    Args:
        patience: seconds that it may take until it does.

    Raises:
        KeyboardInterrupt: also behind the last step.
    """
    global _between_steps, _patience
    _between_steps, _patience = True, patience
    try:
        yield
        if _asked is not None:
            raise KeyboardInterrupt
    finally:
        _between_steps = False
        _alarm(0)


def exit_silently() -> None:
    """All is written: from here on a signal ends the process without a word, whatever other libraries do at an exit."""
    for number in SIGNALS:
        if signal.getsignal(number) is _note:
            signal.signal(number, lambda number, frame: os._exit(128 + number))


def exit_now() -> None:
    """End the process as the signal that came would have, now: what other libraries do at an exit may take long."""
    if _asked is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + _asked)


def exit_with_parent(parent: int) -> None:
    """End with the process ``parent``, if that started this one: after a ``kill -9`` nobody else tells it to."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(FOLLOWING)
        os._exit(128 + signal.SIGTERM)

    global _following
    if os.getppid() == parent and not _following:
        threading.Thread(target=watch, name="follow", daemon=True).start()
        _following = True


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    before, _asked = _asked, number
    impatient = before is not None and number == signal.SIGINT  # SIGTERM comes twice from supervisors
    if not _between_steps or (impatient and _hurry):
        raise KeyboardInterrupt
    if before is None and _hurry:
        _alarm(_patience)


def _alarm(seconds: float) -> None:
    """Raise KeyboardInterrupt in a while; 0 takes it back."""
    if _asked is not None and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _at_once)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _at_once(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
