"""Ctrl-C, SIGTERM (sent by Slurm and Kubernetes before a kill) and SIGHUP (sent when a terminal closes; nohup blocks
it): the process ends within two seconds and loses nothing.

All raise ``KeyboardInterrupt``. During training it is raised between two steps, after a checkpoint. A second Ctrl-C, or
a step of more than a second, raises it at once; then the previous checkpoint is the last.
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

STEP_TIMEOUT = 1.0  # seconds that the current step may still take
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
SWEEP_PID_VARIABLE = "KD_SWEEP_PID"  # the environment variable with the id of the process that started a sweep
FOLLOWING = 1.0  # seconds between two checks of the parent

_received: int | None = None  # the signal
_between_steps = False  # whether a training loop checks for it
_patience = STEP_TIMEOUT
_following = False  # whether a thread watches the parent
_hurry = True  # whether the stop must happen within ``_patience``


def install_handlers() -> None:
    """Handle the signals that have Python's default handler; to be called in the main thread of a command."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _note)


def received_signal() -> int | None:
    """Return the signal that the process received, if any."""
    return _received


@contextmanager
def defer_signals() -> Iterator[None]:
    """Inside the block, which writes a checkpoint, signals wait for its end.

    Raises:
        KeyboardInterrupt: after the block, if ``install_handlers`` was not called (a notebook, a launcher's worker).
            Raised inside ``torch.save`` it may abort the process.
    """
    global _hurry
    _hurry, late = False, []
    _alarm(0)
    main = threading.current_thread() is threading.main_thread()
    default = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default:
        signal.signal(signal.SIGINT, lambda *_: late.append(True))
    try:
        yield
    finally:
        _hurry = True
        _alarm(_patience)
        if default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if late:
        raise KeyboardInterrupt


@contextmanager
def interruptible(patience: float) -> Iterator[None]:
    """Inside the block, a training that calls ``received_signal`` between its steps, signals wait for that call.

    Args:
        patience: seconds until a waiting signal raises anyway.

    Raises:
        KeyboardInterrupt: also after the last step.
    """
    global _between_steps, _patience
    _between_steps, _patience = True, patience
    try:
        yield
        if _received is not None:
            raise KeyboardInterrupt
    finally:
        _between_steps = False
        _alarm(0)


def exit_silently() -> None:
    """From here on a signal ends the process silently, before the exit hooks of other libraries. Call it when all is
    written."""
    for number in SIGNALS:
        if signal.getsignal(number) is _note:
            signal.signal(number, lambda number, frame: os._exit(128 + number))


def exit_now() -> None:
    """End the process with the received signal's exit code, skipping the exit hooks of libraries, which may be slow."""
    if _received is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + _received)


def exit_with_parent(parent: int) -> None:
    """End when the process ``parent`` ends, if it started this one: its ``kill -9`` sends no signal to children."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(FOLLOWING)
        os._exit(128 + signal.SIGTERM)

    global _following
    if os.getppid() == parent and not _following:
        threading.Thread(target=watch, name="follow", daemon=True).start()
        _following = True


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    before, _received = _received, number
    impatient = before is not None and number == signal.SIGINT  # SIGTERM comes twice from supervisors
    if not _between_steps or (impatient and _hurry):
        raise KeyboardInterrupt
    if before is None and _hurry:
        _alarm(_patience)


def _alarm(seconds: float) -> None:
    """Raise KeyboardInterrupt after ``seconds``; 0 cancels that."""
    if _received is not None and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _raise_interrupt)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
