"""The path of the config folder."""

from __future__ import annotations

import os
from pathlib import Path


def conf_dir() -> str:
    """Return the config folder: KD_CONF_DIR if set, else inside the package (a wheel) or beside it (a checkout)."""
    package, given = Path(__file__).resolve().parents[1], os.environ.get("KD_CONF_DIR")
    for folder in [Path(os.path.expanduser(given))] if given else [package / "conf", package.parent / "conf"]:
        if os.path.isfile(folder / "config.yaml"):  # Path.is_file raises if a name is too long
            return str(folder.resolve())
    where = f"not in KD_CONF_DIR={given}" if given else "not where they were installed"
    raise SystemExit(f"kd: the configs are {where}; set KD_CONF_DIR to the folder that holds config.yaml")
