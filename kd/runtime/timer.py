"""Seconds by stage of a run; time in a nested stage counts only there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Wall-clock time since its creation, in total and by stage: ``with timer("evaluate"): ...``."""

    def __init__(self):
        self.began = time.perf_counter()
        self._own: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self._own[stage] = self._own.get(stage, 0.0) + whole - self._inner.pop()
            self._inner[-1] += whole

    def seconds(self) -> dict[str, float]:
        return {**self._own, "total": time.perf_counter() - self.began}

    def __str__(self) -> str:
        whole = int(time.perf_counter() - self.began)
        return f"{whole // 60} min {whole % 60} s"
