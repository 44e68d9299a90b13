"""One job in a process of its own, with the settings that its program makes for its process.

The process reads a line of JSON, ``{"setting": ..., "job": ..., "memory": ...}``, prepares, trains once as a warm-up,
and answers with what it found. For every further line, ``"train"`` or ``"watch"``, it trains once more and answers with
the seconds of an epoch, or with the seconds by part. It ends when its input ends.

A person's loop and torchdistill get the environment of the command, unchanged. The framework first sets its process up
as ``python -m kd.run`` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any

from kd.runtime.process import WAITING, configure_process

if TYPE_CHECKING:
    from kd.bench.setting import Setting

OUTSIDE = ("naive", "torchdistill")  # programs of others


class WorkerError(RuntimeError):
    """A worker ended before it answered."""


class Worker:
    """The other end: a process that trains one job.

    Args:
        memory: watch the memory while it prepares and warms up.

    Raises:
        WorkerError: from every method, if the process ended.
    """

    def __init__(self, setting: Setting, job: str, memory: bool = False):
        command = [sys.executable, "-m", "kd.bench.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8")
        self.send({"setting": json.loads(setting.to_json()), "job": job, "memory": memory})

    def send(self, request: Any) -> None:
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
        self.send("train")
        return self.receive()

    def watch(self) -> dict[str, Any]:
        self.send("watch")
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


def configure(job: str) -> None:
    """Set this process up as the job's program does, before torch is imported."""
    if job not in OUTSIDE:
        configure_process()


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Be the worker."""
    request = json.loads(requests.readline())
    configure(request["job"])

    from kd.bench.jobs import JOBS
    from kd.bench.memory import peak_memory
    from kd.bench.setting import Setting, set_up
    from kd.bench.torch_state import plain_torch

    setting = Setting.from_json(json.dumps(request["setting"]))
    plain = plain_torch(setting.threads)
    setup = set_up(setting)
    job = JOBS[request["job"]](setup, plain)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    with peak_memory(setup.plan.device.device) if request["memory"] else nullcontext() as peak:
        prepared = job.prepare()
        warm_up = job.timed()
    answer(
        precision=job.precision,
        students=job.students,
        images=job.images,
        waiting={name: os.environ[name] for name in WAITING if name in os.environ},
        remarks=job.remarks,
        apart_seconds=job.apart_seconds,
        prepare_seconds=prepared,
        warm_up_seconds=warm_up,
        memory={"host_bytes": peak.host, "device_bytes": peak.device} if peak else None,
    )
    for line in requests:
        if json.loads(line) == "watch":
            answer(parts=job.seconds_by_part())
        else:
            answer(epoch_seconds=job.timed())


if __name__ == "__main__":
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the programs print is no answer
    serve(sys.stdin, kept)
