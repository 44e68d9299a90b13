"""A store entry is made once, reused, and never visible half made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from kd.store.store import Store, digest

SLOW = """
import sys, time
from kd.store.store import Store
def make(folder):
    open(sys.argv[2], "a").write("made\\n")
    (folder / "half").write_text("x")
    time.sleep(float(sys.argv[3]))
    (folder / "whole").write_text("x")
print(Store(sys.argv[1]).get_or_create("things", "one", make) / "whole")
"""


def start(tmp_path, seconds):
    arguments = [sys.executable, "-c", SLOW, str(tmp_path / "store"), str(tmp_path / "log"), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_several_processes_make_it_once(tmp_path):
    jobs = [start(tmp_path, 0.5) for _ in range(4)]
    answers = {job.communicate(timeout=30)[0] for job in jobs}
    assert len(answers) == 1 and (tmp_path / "log").read_text() == "made\n"


def test_a_killed_maker_leaves_nothing_and_blocks_no_process(tmp_path):
    job = start(tmp_path, 60)
    store = tmp_path / "store" / "things"
    while not list(store.glob(".one.*/half")):
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert not (store / "one").exists()
    began = time.monotonic()
    folder = Store(tmp_path / "store").get_or_create("things", "one", lambda folder: (folder / "whole").write_text("y"))
    assert time.monotonic() - began < 5
    assert [path.name for path in store.iterdir()] == ["one"] and (folder / "whole").read_text() == "y"


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.get_or_create("things", "one", fail)
    assert not list((tmp_path / "things").iterdir())


def test_threads_of_one_process_wait_for_each_other(tmp_path):
    made = []

    def make(folder):
        time.sleep(0.1)
        made.append(folder)

    threads = [threading.Thread(target=Store(tmp_path).get_or_create, args=("things", "one", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@pytest.mark.parametrize("damage", ["cut", "missing", "sizes", "no sizes"])
def test_what_was_damaged_later_is_set_aside_and_made_again(tmp_path, capsys, damage):
    store = Store(tmp_path)

    def make(folder):
        (folder / "weights").write_bytes(b"x" * 1000)

    folder = store.get_or_create("things", "one", make)
    assert store.get_or_create("things", "one", None) == folder
    if damage == "missing":
        (folder / "weights").unlink()
    else:
        name, content = {"cut": ("weights", "x"), "sizes": ("sizes.json", "{"), "no sizes": ("sizes.json", "7")}[damage]
        (folder / name).write_text(content)
    assert store.get_or_create("things", "one", make) == folder and (folder / "weights").stat().st_size == 1000
    printed = capsys.readouterr().out
    assert "things/one is damaged" in printed and "making it again" in printed
    (aside,) = (path for path in folder.parent.iterdir() if path != folder)
    assert aside.name in printed


def test_what_a_maker_leaves_beside_outlives_its_kill_and_goes_when_it_is_done(tmp_path):
    store = Store(tmp_path)

    def make(folder):
        beside = store.partial_dir("things", "one")
        beside.mkdir(parents=True, exist_ok=True)
        (beside / "half").touch()
        assert len(list(beside.iterdir())) == 1
        if tries.pop():
            raise KeyboardInterrupt

    tries = [False, True]
    with pytest.raises(KeyboardInterrupt):
        store.get_or_create("things", "one", make)
    assert (store.partial_dir("things", "one") / "half").exists()
    store.get_or_create("things", "one", make)
    assert not store.partial_dir("things", "one").exists()


NO_LOCKS = """
import ctypes, errno, platform, struct, sys
number = {"x86_64": 73, "aarch64": 32}[platform.machine()]  # flock
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | errno.ENOLCK), (0x06, 0, 0, 0x7FFF0000)]
filter = b"".join(struct.pack("HBBI", *step) for step in steps)  # the kernel answers that call with ENOLCK
buffer = ctypes.create_string_buffer(filter)
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
from kd.store.store import Store
for name in ("one", "two", "one"):
    print(Store(sys.argv[1]).get_or_create("things", name, lambda folder: (folder / "whole").write_text("x")).name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="takes the locks away by a filter of Linux's kernel")
def test_a_file_system_without_locks_is_reported_once_and_works(tmp_path):
    done = subprocess.run([sys.executable, "-c", NO_LOCKS, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    warning, *names = done.stdout.splitlines()
    assert "without locks" in warning and "one command at a time" in warning and names == ["one", "two", "one"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o755), (0o022, 0o755), (0o002, 0o775)], ids=oct)
def test_all_users_may_read_what_is_published_and_a_group_that_may_write_can_repair_it(tmp_path, umask, mode):
    def make(folder):
        (folder / "secret").touch(0o600)

    before = os.umask(umask)
    try:
        folder = Store(tmp_path).get_or_create("things", "one", make)
        (folder / "secret").write_text("longer")
        Store(tmp_path).get_or_create("things", "one", make)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == mode
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())
    (aside,) = (tmp_path / "things").glob("one.damaged-*")
    assert aside.stat().st_mode & 0o777 == 0o777 & ~umask


def test_keys_know_values_not_their_order_or_spelling():
    assert digest({"a": 1, "b": [4.0, True]}) == digest({"b": (4, True), "a": 1.0})
    assert digest({"a": 1}) != digest({"a": 2}) and digest({"a": 0.1}) != digest({"a": 0.10000001})
    assert digest({"a": True}) != digest({"a": 1})
    with pytest.raises(TypeError):
        digest({"a": object()})
