"""A full or read-only disk: one message, nothing lost, and the same command resumes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kd.runtime.errors import explain_os_error
from tests import quickly
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
SETTINGS = [*TINY, "teacher=tiny_cnn", "train.teacher.epochs=2", "train.student.epochs=1", "baseline=false"]
SETTINGS += ["train.checkpoint_minutes=1e-9"]  # a checkpoint after every step
SETTINGS += ["train.threads=1", "tracking=disabled", "report=false", "latency.seconds=0.02"]


def run(outputs: Path) -> subprocess.CompletedProcess:
    settings = [*SETTINGS, f"outputs={outputs}"]
    return quickly.run("kd.run", *settings, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120)


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system in memory, if the test may mount one."""
    place.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode
    ):
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_gives_one_message_and_with_space_the_run_resumes(tmp_path):
    place = tmp_path / "small"
    with mounted(place, "size=20m"):  # for one checkpoint of the teacher, not for two
        full = run(place / "outputs")
        assert full.returncode == 2, full.stdout + full.stderr
        first, second, _ = full.stderr.splitlines()
        assert first.startswith("kd: ") and "No space left on device" in first and "MB are free there" in first
        assert second == "Finished work is kept; the same command resumes from there when there is space."
        subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
        roomy = run(place / "outputs")
        assert roomy.returncode == 0, roomy.stderr
        assert "teacher: resuming from " in roomy.stdout
        assert not list((place / "outputs").glob("unfinished/*"))


def test_a_read_only_outputs_folder_gives_one_message(tmp_path):
    place = tmp_path / "closed"
    with mounted(place, "size=1m,ro"):
        done = run(place / "outputs")
    assert done.returncode == 2 and "Read-only file system" in done.stderr and "Traceback" not in done.stderr
    assert str(place / "outputs") in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_whatever_was_being_written_the_place_is_named(number, tmp_path):
    named, nameless = OSError(number, os.strerror(number), str(tmp_path / "file")), OSError(number, os.strerror(number))
    assert explain_os_error(named, tmp_path).startswith(f"{tmp_path / 'file'}: {os.strerror(number)} (")
    assert explain_os_error(nameless, tmp_path).startswith(f"{tmp_path}: {os.strerror(number)} (")
    assert explain_os_error(ValueError("else"), tmp_path) == "else"
