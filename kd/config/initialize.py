"""Initialize Hydra in a script as the command does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from kd.config.paths import conf_dir


def initialize_hydra() -> AbstractContextManager[Any]:
    """Return a context with Hydra initialized: as the command did it, or in a script with our configs."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    from kd.config.register import register  # imported here because it lists options, too

    register()
    return initialize_config_dir(conf_dir(), version_base="1.3")
