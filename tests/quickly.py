"""``python -m kd.run`` without the 3 to 5 s that it takes to import torch, timm, wandb and seaborn.

A server process has imported the heavy libraries, and nothing of kd, and forks itself for every command. The first
command starts it, once for each worker of pytest. If a process cannot fork, commands start normally.

A command gets its own arguments, folder, environment, streams and exit code. Python and libraries do not read these
variables again, which they read at their start: PYTHONHASHSEED, PYTHONUTF8, LC_ALL, OMP_NUM_THREADS (it is 1).
PYTHONIOENCODING does take effect. Tests of the start itself use ``subprocess``.

Run as a script, this file is the server process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

HEAVY = ("torch", "torchvision", "timm.optim", "seaborn", "hydra.main", "safetensors.torch", "wandb.apis.public")


def run(module: str, *arguments: str, timeout: float = 300, **how: Any) -> subprocess.CompletedProcess:
    """Run ``python -m module arguments`` like ``subprocess.run`` that captures text; ``how`` as for ``start``."""
    command = start(module, *arguments, **how)
    try:
        out, err = command.communicate(timeout=timeout)
    except BaseException:
        command.kill()
        command.wait()
        raise
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


def start(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdout: int | None = None,
    forked: bool = hasattr(os, "fork"),
) -> Started | subprocess.Popen:
    """Start ``python -m module arguments`` with an empty stdin.

    Args:
        env: the whole environment. stdout: a file descriptor; None captures it. stderr is always captured.
        forked: False starts a new Python process, for tests that need one.
    """
    args = [sys.executable, "-m", module, *arguments]
    if not forked:
        stdout, pipe = subprocess.PIPE if stdout is None else stdout, subprocess.PIPE
        return subprocess.Popen(args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=pipe, text=True)
    line, child_end = socket.socketpair()
    how = {"mode": "w+", "encoding": "utf-8", "errors": "replace"}  # a command may write in another encoding
    out, err = (tempfile.TemporaryFile(**how) for _ in range(2))  # noqa: SIM115  see Started
    with child_end:
        streams = [out.fileno() if stdout is None else stdout, err.fileno()]
        socket.send_fds(_server(), [b"."], [child_end.fileno(), *streams])
    request = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
    line.sendall(json.dumps(request).encode())
    line.shutdown(socket.SHUT_WR)
    return Started(args, line, out, err)


class Started:
    """A running command: as much of ``subprocess.Popen`` as tests need."""

    def __init__(self, args: list[str], line: socket.socket, stdout: IO[str], stderr: IO[str]):
        self.args, self.returncode, self._streams = args, None, (stdout, stderr)
        self._line = line.makefile("rb", buffering=0)  # select does not see data that a buffer has read ahead
        self.pid = int(self._line.readline())

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._line.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        for stream in self._streams:
            stream.seek(0)
        with self._streams[0] as out, self._streams[1] as err:
            return out.read(), err.read()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    """Start the server process; return the socket to it."""
    ours, server_end = socket.socketpair()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with server_end:
        number = server_end.fileno()
        server = subprocess.Popen([sys.executable, "-P", __file__, str(number)], env=env, pass_fds=[number], **quiet)

    def end() -> None:
        ours.close()  # the server ends when the socket closes
        server.wait()

    atexit.register(end)
    return ours


def serve(door: socket.socket) -> dict[str, Any]:
    """Fork for every request; return in the child, with the request. The server ends when ``door`` closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while fds := socket.recv_fds(door, 1, 3)[1]:
        if not os.fork():
            door.close()
            return fork_command(*fds)
        for fd in fds:
            os.close(fd)
        _reap()
    _reap()
    os._exit(0)


def _reap() -> None:
    """Wait for children that have ended, so that their cost counts as the server's, and as pytest's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_command(line: int, stdout: int, stderr: int) -> dict[str, Any]:
    """Fork once more: the parent reports process id and exit code of the child, and the child becomes the command."""
    with socket.socket(fileno=line) as talk, talk.makefile("rw") as channel:
        request = json.load(channel)
        if pid := os.fork():
            print(pid, file=channel, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=channel, flush=True)
            os._exit(0)
    for number, stream in enumerate((stdout, stderr), 1):
        os.dup2(stream, number)
        os.close(stream)
    return request


def become(module: str, arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Run a module as ``python -m`` would; return the exit code, or minus the signal that ends the process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("numpy").random.seed()  # else all commands would draw the same numbers
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    if named := env.get("PYTHONIOENCODING"):
        encoding, _, errors = named.partition(":")
        sys.stdout.reconfigure(encoding=encoding, errors=errors or "strict")
        sys.stderr.reconfigure(encoding=encoding)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


if __name__ == "__main__":
    for name in HEAVY:  # imports only: threads would not survive a fork
        importlib.import_module(name)
    gc.freeze()  # else the garbage collector makes the children copy memory pages
    code = become(**serve(socket.socket(fileno=int(sys.argv[1]))))
    # Python's exit without the clean-up of imported modules, which takes a second
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)
