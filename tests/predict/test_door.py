"""The command as a process: an interrupt, a reader that goes away, a closed input, names in any locale."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd.predict.__main__ import parse_arguments
from tests import quickly

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def run(*arguments, **how):
    words = [str(argument) for argument in arguments]
    return quickly.run("kd.predict", *words, **{"cwd": ROOT, "env": ENVIRONMENT, **how})


def test_an_interrupt_ends_it_silently_with_130(run_folder, tree):
    files = [str(file) for file in (tree / "test").rglob("*.jpg")] * 2000
    ours, theirs = pty.openpty()  # where the progress bar shows
    command = [sys.executable, "-m", "kd.predict", run_folder, "-", "--csv"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": theirs}
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes)
    os.close(theirs)
    process.stdin.write("\n".join(files).encode())
    process.stdin.close()
    shown = b""
    while b"predict:" not in shown:
        shown += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and process.stdout.read() == b""
    process.stdout.close()
    while True:
        try:
            shown += os.read(ours, 1000)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert b"Traceback" not in shown and b"kd.predict" not in shown and f"/{len(files)}".encode() in shown


def test_a_reader_that_goes_away_is_no_error(run_folder, tree):
    for style in ("--csv", "--json", "--labels"):
        reads, writes = os.pipe()
        os.close(reads)
        command = quickly.start(
            "kd.predict", str(run_folder), str(tree / "test"), style, cwd=ROOT, env=ENVIRONMENT, stdout=writes
        )
        os.close(writes)
        assert command.wait(60) == 0 and command.communicate()[1] == ""


def test_csv_and_json_are_utf_8_in_any_locale(run_folder, tree, tmp_path):
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    with (tmp_path / "out").open("wb") as file:
        command = quickly.start(
            "kd.predict", str(run_folder), str(tree / "test"), "--csv", cwd=ROOT, env=environment, stdout=file.fileno()
        )
        assert command.wait(60) == 0
    assert "🦉" in (tmp_path / "out").read_text(encoding="utf-8")
    done = run(run_folder, tree / "test", env=environment)
    assert done.returncode == 0 and "🦉" not in done.stdout and "?" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has this device")
def test_a_full_disk_is_said_in_one_sentence(run_folder, tree):
    for style in ("--csv", "--json", "--labels"):
        with open("/dev/full", "wb") as full:
            words = ("kd.predict", str(run_folder), str(tree / "test"), style)
            command = quickly.start(*words, cwd=ROOT, env=ENVIRONMENT, stdout=full.fileno())
            assert command.wait(60) == 2
            err = command.communicate()[1]
        assert err.count("No space left on device") == 1 and len(err.splitlines()) == 1


def test_a_closed_input_names_no_file(run_folder):
    words = f'"{sys.executable}" -m kd.predict "{run_folder}" - <&-'
    done = subprocess.run(words, shell=True, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "standard input names no file" in done.stderr


def test_it_starts_anywhere_and_writes_nothing_beside(run_folder, tree, tmp_path):
    done = run(run_folder, tree / "test", "--logits", "out.npz", cwd=tmp_path, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 31
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    recorded = np.load(run_folder / "predictions.npz")["student"]
    assert np.load(tmp_path / "out.npz")["logits"].tobytes() == recorded.tobytes()


def test_the_commands_of_the_guide_are_understood():
    text = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:find .* \| )?python -m kd\.predict (.*?)(?: *#.*| [|>] .*)?$", text, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        given = parse_arguments(shlex.split(command))
        assert given.run and given.images, command
