"""Ask a server for a sign of life before anything is fetched from it: libraries try again and again, or wait for ever.

What has answered once is fetched without a bound, so that a slow connection does no harm.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

PATIENCE = 5.0  # seconds: names, a connection and a handshake over a satellite take two or three

Ask = Callable[[float], Any]


def ask_server(ask: Ask, patience: float = PATIENCE) -> Callable[[], None]:
    """Let ``ask`` make a request in the background, in the time of ``patience`` altogether: no library bounds the
    look-up of a name.

    Args:
        ask: gets the seconds that it may take, and raises where there is no answer.

    Returns:
        What waits for the end of it and raises TimeoutError where there was no answer in time, or what ``ask`` raised.
    """
    began, failed, ended = time.monotonic(), list[Exception](), threading.Event()
    late = TimeoutError(f"no answer within {patience:g} seconds")

    def run() -> None:
        try:
            ask(patience + 1)  # so that what is late is told in one way
        except Exception as error:
            failed.append(error if time.monotonic() - began < patience else late)
        ended.set()

    def wait() -> None:
        if not ended.wait(max(0.0, began + patience - time.monotonic())):
            raise late
        if failed:
            raise failed[0]

    threading.Thread(target=run, name="reach", daemon=True).start()
    return wait


def check_reachable(ask: Ask, patience: float = PATIENCE) -> None:
    """``asking``, and wait for the answer."""
    ask_server(ask, patience)()


def check_url(url: str, patience: float = PATIENCE) -> None:
    """``reach`` for what Python's own urllib fetches, as torch and torchvision do. Any answer will do."""

    def ask(seconds: float) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:  # an answer
            error.close()

    check_reachable(ask, patience)
