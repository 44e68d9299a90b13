"""Made once, found again, never seen half made."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from kd.store import Store, digest

SLOW = """
import sys, time
from kd.store import Store
def make(folder):
    open(sys.argv[2], "a").write("made\\n")
    (folder / "half").write_text("x")
    time.sleep(float(sys.argv[3]))
    (folder / "whole").write_text("x")
print(Store(sys.argv[1]).obtain("things", "one", make) / "whole")
"""


def start(tmp_path, seconds):
    arguments = [sys.executable, "-c", SLOW, str(tmp_path / "store"), str(tmp_path / "log"), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_several_processes_make_it_once(tmp_path):
    jobs = [start(tmp_path, 0.5) for _ in range(4)]
    answers = {job.communicate(timeout=30)[0] for job in jobs}
    assert len(answers) == 1 and (tmp_path / "log").read_text() == "made\n"


def test_a_killed_maker_leaves_nothing_and_blocks_nobody(tmp_path):
    job = start(tmp_path, 60)
    store = tmp_path / "store" / "things"
    while not list(store.glob(".one.*/half")):
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert not (store / "one").exists()
    began = time.monotonic()
    found = Store(tmp_path / "store").obtain("things", "one", lambda folder: (folder / "whole").write_text("y"))
    assert time.monotonic() - began < 5
    assert [path.name for path in store.iterdir()] == ["one"] and (found / "whole").read_text() == "y"


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.obtain("things", "one", fail)
    assert not list((tmp_path / "things").iterdir())


def test_threads_of_one_process_wait_for_each_other(tmp_path):
    made = []

    def make(folder):
        time.sleep(0.1)
        made.append(folder)

    threads = [threading.Thread(target=Store(tmp_path).obtain, args=("things", "one", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_keys_know_values_not_their_order_or_spelling():
    assert digest({"a": 1, "b": [4.0, True]}) == digest({"b": (4, True), "a": 1.0})
    assert digest({"a": 1}) != digest({"a": 2}) and digest({"a": 0.1}) != digest({"a": 0.10000001})
    assert digest({"a": True}) != digest({"a": 1})
    with pytest.raises(TypeError):
        digest({"a": object()})
