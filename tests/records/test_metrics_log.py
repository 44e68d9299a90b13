"""metrics.jsonl over several starts of its run: no line twice, none missing, none deleted."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from kd.records.metrics_log import MetricsLog

LINES = [f'{{"stage": "student", "epoch": {epoch}, "loss": {1 / epoch}}}' for epoch in range(1, 9)]
WHOLE = "".join(f"{line}\n" for line in LINES).encode()


def write(path: Path, lines, complete: bool = True) -> bytes:
    log = MetricsLog(path)
    try:
        for line in lines:
            log.write(line)
    finally:
        log.close(complete)
    return path.read_bytes()


@pytest.mark.parametrize("torn", range(0, len(WHOLE), 7))
def test_whatever_a_killed_run_left_the_rerun_ends_with_all_lines_once(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE[:torn])
    assert write(path, LINES) == WHOLE


def test_a_line_that_agrees_is_not_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, LINES)
    log = MetricsLog(path)
    before = path.stat()
    for line in LINES:
        log.write(line)
    after = path.stat()
    log.close(complete=True)
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert path.read_bytes() == WHOLE


def test_the_first_line_that_differs_ends_what_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, LINES)
    assert write(path, [*LINES[:3], "other", *LINES[4:6]]).decode().splitlines() == [
        *LINES[:3],
        "other",
        *LINES[4:6],
    ]


def test_surplus_lines_are_cut_when_a_run_ends_and_stay_otherwise(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, LINES)
    assert write(path, LINES[:3], complete=False) == WHOLE
    assert write(path, LINES[:3], complete=True) == "".join(f"{line}\n" for line in LINES[:3]).encode()


def test_on_a_full_disk_no_line_is_half_and_a_rerun_deletes_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    room = len(WHOLE) // 2 + 10  # in the middle of a line
    script = """
import resource, sys
from kd.records.metrics_log import MetricsLog
from pathlib import Path
room = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
log = MetricsLog(Path(sys.argv[1]))
for line in sys.stdin.read().splitlines():
    log.write(line)
"""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(room)],
            input="\n".join(LINES),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and f"OSError: [Errno {errno.EFBIG}]" in done.stderr and str(path) in done.stderr
        kept = path.read_bytes()
        assert WHOLE.startswith(kept) and kept.endswith(b"\n") and room - 60 < len(kept) <= room
    assert write(path, LINES) == WHOLE, "with room again it is made complete"
