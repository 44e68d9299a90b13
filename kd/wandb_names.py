"""What W&B takes as a name. Of a project and a tag wandb says so as it starts, of a group only the server does."""

from __future__ import annotations

import hashlib

MOST, MOST_OF_A_TAG = 128, 64  # characters
NO_SIGNS = "/\\#?%:"  # of a project, and of an entity, which stands before it in an address


def as_group(name: str) -> str:
    """A name, short enough for a group; of two long ones that begin alike no two become the same."""
    if len(name) <= MOST:
        return name
    return f"{name[: MOST - 9]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
