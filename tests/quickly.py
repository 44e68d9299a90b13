"""``python -m kd.run`` without the 3 to 5 s that it takes to import torch, timm, wandb and seaborn.

A process that has imported what is heavy, and nothing of kd, forks itself for every command. It is started when it is
first needed, one for each worker of pytest; where a process cannot fork, commands are started as ever.

A command gets its own arguments, folder, environment, streams and exit code. What Python and libraries read from the
environment as they start is not read again: PYTHONHASHSEED, PYTHONUTF8, LC_ALL, OMP_NUM_THREADS (it is 1); but for
PYTHONIOENCODING. Commands whose start is the thing that is tested are for ``subprocess``.

Run as a script, this file is the process that forks.
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
    """``python -m module arguments``, as ``subprocess.run`` that captures text; ``how`` as for ``start``."""
    going = start(module, *arguments, **how)
    try:
        out, err = going.communicate(timeout=timeout)
    except BaseException:
        going.kill()
        going.wait()
        raise
    return subprocess.CompletedProcess(going.args, going.returncode, out, err)


def start(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdout: int | None = None,
    forked: bool = hasattr(os, "fork"),
) -> Started | subprocess.Popen:
    """Start ``python -m module arguments``, with nothing to read from stdin.

    Args:
        env: the whole environment. stdout: a file descriptor; None captures it, as stderr always is.
        forked: False for a process that Python starts in, where that matters.
    """
    args = [sys.executable, "-m", module, *arguments]
    if not forked:
        stdout, pipe = subprocess.PIPE if stdout is None else stdout, subprocess.PIPE
        return subprocess.Popen(args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=pipe, text=True)
    line, theirs = socket.socketpair()
    how = {"mode": "w+", "encoding": "utf-8", "errors": "replace"}  # of what a command says in another encoding
    out, err = (tempfile.TemporaryFile(**how) for _ in range(2))  # noqa: SIM115  see Started
    with theirs:
        streams = [out.fileno() if stdout is None else stdout, err.fileno()]
        socket.send_fds(_server(), [b"."], [theirs.fileno(), *streams])
    asked = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
    line.sendall(json.dumps(asked).encode())
    line.shutdown(socket.SHUT_WR)
    return Started(args, line, out, err)


class Started:
    """A command on its way: as much of ``subprocess.Popen`` as tests need."""

    def __init__(self, args: list[str], line: socket.socket, stdout: IO[str], stderr: IO[str]):
        self.args, self.returncode, self._streams = args, None, (stdout, stderr)
        self._line = line.makefile("rb", buffering=0)  # what is read ahead, select does not see
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
    """The line to the process that forks."""
    ours, theirs = socket.socketpair()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with theirs:
        number = theirs.fileno()
        server = subprocess.Popen([sys.executable, "-P", __file__, str(number)], env=env, pass_fds=[number], **quiet)

    def end() -> None:
        ours.close()  # it ends when nobody is left to ask
        server.wait()

    atexit.register(end)
    return ours


def serve(door: socket.socket) -> dict[str, Any]:
    """Fork for everyone who asks; return in the new process, with what it is to be. The old one ends with the door."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while fds := socket.recv_fds(door, 1, 3)[1]:
        if not os.fork():
            door.close()
            return overseen(*fds)
        for fd in fds:
            os.close(fd)
        _bury()
    _bury()
    os._exit(0)


def _bury() -> None:
    """Wait for those that have ended; what they cost is then counted as ours, and pytest's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def overseen(line: int, stdout: int, stderr: int) -> dict[str, Any]:
    """Fork once more: one tells of the process and of its end, the other is the command."""
    with socket.socket(fileno=line) as talk, talk.makefile("rw") as told:
        asked = json.load(told)
        if pid := os.fork():
            print(pid, file=told, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told, flush=True)
            os._exit(0)
    for number, stream in enumerate((stdout, stderr), 1):
        os.dup2(stream, number)
        os.close(stream)
    return asked


def become(module: str, arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Run a module as ``python -m`` would; return the exit code, or minus the signal to end by."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("numpy").random.seed()  # or all commands would draw the same
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
    for name in HEAVY:  # nothing is computed: threads would not survive a fork
        importlib.import_module(name)
    gc.freeze()  # nor are pages copied to count what is in use
    code = become(**serve(socket.socket(fileno=int(sys.argv[1]))))
    # what Python does at an end, but for taking apart all that was imported, which takes a second
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)
