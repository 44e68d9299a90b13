"""One job in a process of its own: for its memory, for two at once, and for points that may need too much memory.

The process reads a line of JSON, ``{"setting": ..., "job": ..., "memory": ...}``, prepares and warms up, and answers
``{"ready": ...}``. For every further line it trains once and answers with the seconds of an epoch. It ends when its
input ends. Threads and waiting (OMP_WAIT_POLICY) come from the environment that it inherits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from typing import IO, Any

from kd.bench.setting import Setting


class Worker:
    """The other end: a process that is ready to train.

    Raises:
        WorkerError: the process ended.
    """

    def __init__(self, setting: Setting, job: str, memory: bool = False):
        command = [sys.executable, "-m", "kd.bench.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8")
        self.send({"setting": json.loads(setting.to_json()), "job": job, "memory": memory})

    def send(self, request: Any = None) -> None:
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            self._ended()

    def receive(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self._ended()
        return json.loads(line)

    def train(self) -> dict[str, Any]:
        self.send()
        return self.receive()

    def _ended(self) -> None:
        error = self.process.stderr.read().strip().splitlines()
        code = self.process.wait()
        killed = "killed by the system, probably for memory" if code == -9 else f"ended with exit code {code}"
        raise WorkerError(": ".join([killed, *error[-1:]]))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


class WorkerError(RuntimeError):
    """A worker ended before it answered."""


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Be the worker."""
    from kd.bench.jobs import JOBS
    from kd.bench.memory import peak_memory
    from kd.bench.setting import set_up
    from kd.bench.start import plain_torch

    request = json.loads(requests.readline())
    setting = Setting.from_json(json.dumps(request["setting"]))
    plain = plain_torch(setting.threads)
    setup = set_up(setting)
    job = JOBS[request["job"]](setup, plain)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    with peak_memory(setup.plan.device.device) if request["memory"] else nullcontext() as peak:
        prepared = job.prepare()
        warm_up = job.timed()
    memory = {"host_bytes": peak.host, "device_bytes": peak.device} if peak else {}
    answer(prepare_seconds=prepared, warm_up_seconds=warm_up, images=job.images, students=job.students, memory=memory)
    for _ in requests:
        answer(epoch_seconds=job.timed())


if __name__ == "__main__":
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the programs print is no answer
    serve(sys.stdin, kept)
