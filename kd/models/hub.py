"""timm's pretrained weights: files on this machine are used as they are; for others the server is tested first.

huggingface_hub makes five attempts for each of two file names, which takes 50 seconds without a network, and contacts
the server even for files in its cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from kd.runtime.connection import TIMEOUT, ask_server, check_url

FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, in timm's order


@cache
def check_server() -> Callable[[], None]:
    """Send one request to the hub in the background, and return a function that waits for the answer.

    A command calls this early, so that the request runs while torch is imported. The result is cached until
    ``find_pretrained`` has used it; see ``ask_server``.
    """

    def head(seconds: float) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session

        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=seconds)

    return ask_server(head, float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or TIMEOUT))


def find_pretrained(name: str) -> dict[str, Any]:
    """Return timm's ``pretrained_cfg_overlay`` for a network: the path of cached weights, or {} if timm fetches them.

    Args:
        name: of a network of timm, with or without the tag of its weights.

    Raises:
        ValueError: timm has no such weights, or they are not on this machine and their server does not answer.
    """
    import timm
    import torch

    from kd.runtime.errors import first_line

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise ValueError(
            f"timm has no pretrained weights of {name}: train from scratch with teacher.pretrained=false (or "
            "student.pretrained=false)"
        )
    if cfg.file:
        return {}
    if cfg.hf_hub_id:
        return _on_the_hub(name, cfg)
    if not (Path(torch.hub.get_dir()) / "checkpoints" / Path(cfg.url).name).is_file():
        try:
            check_url(cfg.url)
        except Exception as error:
            raise ValueError(
                f"the pretrained weights of {name} are not on this machine and cannot be fetched from {cfg.url} "
                f"({first_line(error)})\nTrain from scratch (teacher.pretrained=false, or student.pretrained=false), "
                f"or put that file into {torch.hub.get_dir()}/checkpoints"
            ) from error
    return {}


def _on_the_hub(name: str, cfg: Any) -> dict[str, Any]:
    from huggingface_hub import constants, try_to_load_from_cache

    from kd.runtime.errors import first_line

    repository, _, revision = cfg.hf_hub_id.partition("@")
    files = [cfg.hf_hub_filename] if cfg.hf_hub_filename else FILES
    cached = (try_to_load_from_cache(repository, file, revision=revision or None) for file in files)
    path = next((path for path in cached if isinstance(path, str)), None)
    if path:
        # a network with its own file format reads it here too, as with timm
        return {"file": path, "custom_load": bool(cfg.hf_hub_filename) and cfg.custom_load == "hf"}
    try:
        check_server()()
    except Exception as error:
        slow = isinstance(error, TimeoutError) and not os.environ.get("HF_HUB_ETAG_TIMEOUT")
        longer = "; HF_HUB_ETAG_TIMEOUT=30 waits longer" if slow else ""
        folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        raise ValueError(
            f"the pretrained weights of {name} are not on this machine and cannot be fetched from "
            f"{constants.ENDPOINT} ({first_line(error)}{longer})\n"
            "Train from scratch (teacher.pretrained=false, or student.pretrained=false). Or run "
            f"'hf download {repository} {files[0]}' on a machine with a network and copy its folder {folder.name}, "
            f"there in ~/.cache/huggingface/hub, to {folder.parent}"
        ) from error
    finally:
        check_server.cache_clear()  # the network may come back during a sweep
    return {}
