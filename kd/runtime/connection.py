"""Check that a server answers before a download: libraries retry many times or wait for ever.

Once the server has answered, the download itself has no time limit, so a slow connection does no harm.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

TIMEOUT = 5.0  # seconds: name look-up, connection and handshake over a satellite take two or three

Ask = Callable[[float], Any]


def ask_server(ask: Ask, patience: float = TIMEOUT) -> Callable[[], None]:
    """Start a request in the background, limited to ``patience`` seconds: no library limits the look-up of a name.

    Args:
        ask: makes the request; gets its time limit in seconds and raises if there is no answer.

    Returns:
        A function that waits for the answer. It raises TimeoutError if none came in time, or what ``ask`` raised.
    """
    began, failed, ended = time.monotonic(), list[Exception](), threading.Event()
    late = TimeoutError(f"no answer within {patience:g} seconds")

    def run() -> None:
        try:
            ask(patience + 1)  # a later timeout than ours, so that there is one message
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


def check_reachable(ask: Ask, patience: float = TIMEOUT) -> None:
    """Make a request and wait for the answer, see ``ask_server``."""
    ask_server(ask, patience)()


def check_url(url: str, patience: float = TIMEOUT) -> None:
    """Check a server from which urllib downloads, as torch and torchvision use it. Any answer will do."""

    def ask(seconds: float) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:  # an answer
            error.close()

    check_reachable(ask, patience)
