"""Whether bfloat16 is faster than float32 on a device: by a short trial on a CPU, by generation on a GPU."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from kd.runtime.threads import threads

MIN_SPEED_UP = 1.1  # less is not worth the digits
ROUNDS = 5  # of the trial; the fastest counts, because other programs only ever slow one down
PATIENCE = 0.1  # seconds: where bfloat16 is emulated one round takes long
IMAGES, CHANNELS, SIDE = 8, 64, 24  # of the convolution that is timed: 1 GFLOP forward and backward


def prefers_bfloat16(device: torch.device) -> bool:
    """Whether training on ``device`` is faster in bfloat16: on a CPU a trial of a tenth of a second."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    if device.type != "cpu":
        return False
    float32, bfloat16 = trial_seconds()
    return float32 > MIN_SPEED_UP * bfloat16


def trial_seconds() -> tuple[float, float]:
    """Return the seconds that a convolution takes forward and backward on one CPU thread, in float32 and bfloat16.

    One thread, because the result must not depend on what else the machine does. The formats alternate.
    """
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)
    image = torch.ones(IMAGES, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last).requires_grad_()
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    began = time.perf_counter()
    with threads(1):
        for number in range(1 + ROUNDS):  # the first is a warm-up: kernels are made
            for dtype in best:
                seconds = _seconds(conv, image, dtype)
                if number:
                    best[dtype] = min(best[dtype], seconds)
            if number and time.perf_counter() - began > PATIENCE:
                break
    return best[torch.float32], best[torch.bfloat16]


def _seconds(conv: nn.Module, image: Tensor, dtype: torch.dtype) -> float:
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        conv(image).sum().backward()
    return time.perf_counter() - start
