"""A command that is forked is, to whoever looks, a command that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import quickly

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="here commands are started as ever")
MODULES = {
    "ends": "print('said')",
    "ends_with_a_number": "import sys; print('said'); sys.exit(259)",
    "ends_with_a_sentence": "raise SystemExit('why it ended: ü')",
    "fails": "raise ValueError('no good: ü')",
    "has_a_last_word": "import atexit, sys; atexit.register(print, 'last'); print('said', end=' '); sys.exit(2)",
    "has_a_thread": "import threading; threading.Timer(0.1, print, ['waited for']).start()",
    "is_killed": "import os, signal; print('said', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "waits": "import time; print('said', flush=True); time.sleep(100)",
    "tells_all": """
import json, os, signal, sys
main = sys.modules["__main__"]
told = {"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "path": sys.path, "name": __name__}
told |= {"file": main.__file__, "spec": main.__spec__.name, "stdin": sys.stdin.read(), "open": os.listdir("/dev/fd")}
told |= {"interrupt": str(signal.getsignal(signal.SIGINT)), "kd": "kd" in sys.modules}
print(json.dumps(told))
""",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("commands")
    (place / "package").mkdir()
    for name, code in MODULES.items():
        (place / "package" / f"{name}.py").write_text(code, encoding="utf-8")
    return place


def how(place: Path) -> dict:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "LC_CTYPE": "C.UTF-8", "MARK": "ü"}
    return {"cwd": place / "package", "env": env}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "waits"])
def test_it_is_told_does_and_says_the_same(place, name):
    said = [quickly.run(f"package.{name}", "a", "b=c d", "", **how(place), forked=forked) for forked in (True, False)]
    forked, started = said
    assert (forked.args, forked.returncode, forked.stdout) == (started.args, started.returncode, started.stdout)
    last, word = (done.stderr.splitlines()[-1:] for done in said)
    assert last == word  # what stands above it in a traceback are other files


def test_it_hears_signals_and_runs_beside_others(place):
    reader, writer = os.pipe()
    sent = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    going = [quickly.start("package.waits", **how(place), stdout=writer) for _ in sent]
    with open(reader) as said:
        assert [said.readline() for _ in going] == ["said\n"] * 3
    os.close(writer)
    assert [process.poll() for process in going] == [None] * 3
    for process, number in zip(going, sent, strict=True):
        process.send_signal(number)
    last = [process.communicate(60)[1].splitlines()[-1:] for process in going]
    assert [process.returncode for process in going] == [-number for number in sent]
    assert last == [[], [], ["KeyboardInterrupt"]]


def test_it_is_ended_when_its_time_is_over(place):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        quickly.run("package.waits", **how(place), timeout=0.3)
    assert time.monotonic() - began < 50


def test_its_output_goes_where_it_shall(place, tmp_path):
    with (tmp_path / "said").open("w+") as said:
        done = quickly.run("package.ends", **how(place), stdout=said.fileno())
        said.seek(0)
        assert (said.read(), done.returncode) == ("said\n", 0)
