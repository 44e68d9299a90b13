"""Make a store entry in several processes together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from kd.runtime.distributed import World
from kd.store.store import Store


def get_or_create_together(world: World, store: Store, kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return a published folder of the store; if there is none, all processes call ``make`` at the same time.

    The main process publishes what it wrote, under the store's lock. The other processes write to a temporary
    folder, which is removed. All processes must be able to read the store.
    """
    if world.size == 1:
        return store.get_or_create(kind, name, make)
    folder, making = None, False
    if world.is_main:

        def make_together(folder: Path) -> None:
            nonlocal making
            making = world.broadcast(True)
            make(folder)

        folder = store.get_or_create(kind, name, make_together)
        if not making:
            world.broadcast(False)
    elif world.broadcast():
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch))
    return world.broadcast(folder)  # after it is published
