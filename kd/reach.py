"""Ask a server for a sign of life before anything is fetched from it: libraries try again and again, or wait for ever.

What has answered once is fetched without a bound, so that a slow connection does no harm.
"""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

PATIENCE = 4.0  # seconds: names, a connection and a handshake over a satellite take two


def reach(ask: Callable[[float], Any], patience: float = PATIENCE) -> None:
    """Let ``ask`` make a request, in the time of ``patience`` altogether: no library bounds the look-up of a name.

    Args:
        ask: gets the seconds that it may take, and raises where there is no answer.

    Raises:
        TimeoutError: no answer in time. Whatever ``ask`` raises.
    """
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            ask(patience)
            ended.put(None)
        except Exception as error:
            ended.put(error)

    threading.Thread(target=run, name="reach", daemon=True).start()
    try:
        error = ended.get(timeout=patience)
    except queue.Empty:
        raise TimeoutError(f"no answer within {patience:g} seconds") from None
    if error is not None:
        raise error


def reach_url(url: str, patience: float = PATIENCE) -> None:
    """``reach`` for what Python's own urllib fetches, as torch and torchvision do. Any answer will do."""

    def ask(seconds: float) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:  # an answer
            error.close()

    reach(ask, patience)
