"""Limits of names in W&B. wandb refuses a bad project or tag when it starts; only the server refuses a bad group."""

from __future__ import annotations

import hashlib

NAME_LENGTH, TAG_LENGTH = 128, 64  # characters
FORBIDDEN = "/\\#?%:"  # in a project, and in an entity, which precedes the project in a URL


def as_group(name: str) -> str:
    """Shorten a name to fit a group; two long names with the same beginning stay different."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 9]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
