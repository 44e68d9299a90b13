"""timm's pretrained weights: what lies on this machine is taken as it is; where it does not, its server is asked first.

huggingface_hub tries five times for each of two names of a file, which is 50 seconds where there is no network, and
asks the network of files that it has, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from kd.runtime.connection import PATIENCE, ask_server, check_url

FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, in timm's order


@cache
def check_server() -> Callable[[], None]:
    """Ask the hub for a sign of life, in the background, and once until ``find`` has heard it.

    Whoever calls this early does not wait for torch to be imported first. What is returned waits, see ``asking``.
    """

    def head(seconds: float) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session

        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=seconds)

    return ask_server(head, float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or PATIENCE))


def find_pretrained(name: str) -> dict[str, Any]:
    """What timm is to be told of the weights of a network: where they lie, or nothing where it fetches them itself.

    Args:
        name: of a network of timm, with or without the tag of its weights.

    Raises:
        ValueError: there are none, or none here and nobody who would send them: what to do.
    """
    import timm
    import torch

    from kd.runtime.errors import first_line

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise ValueError(
            f"timm has no pretrained weights of {name}: train from scratch with teacher.pretrained=false, or student."
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
                f"({first_line(error)})\nTrain from scratch (teacher.pretrained=false, or student.), or put that file "
                f"into {torch.hub.get_dir()}/checkpoints"
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
        # a network that reads files of its own kind does so where timm would let it, too
        return {"file": path, "custom_load": bool(cfg.hf_hub_filename) and cfg.custom_load == "hf"}
    try:
        check_server()()
    except Exception as error:
        slow = isinstance(error, TimeoutError) and not os.environ.get("HF_HUB_ETAG_TIMEOUT")
        longer = "; HF_HUB_ETAG_TIMEOUT=30 waits longer" if slow else ""
        place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        raise ValueError(
            f"the pretrained weights of {name} are not on this machine and cannot be fetched from "
            f"{constants.ENDPOINT} ({first_line(error)}{longer})\n"
            "Train from scratch (teacher.pretrained=false, or student.). Or type "
            f"'hf download {repository} {files[0]}' where there is a network and copy the folder {place.name}, there "
            f"in ~/.cache/huggingface/hub, to {place.parent}"
        ) from error
    finally:
        check_server.cache_clear()  # a network may go and come back while a sweep goes on
    return {}
