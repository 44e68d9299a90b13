"""A terminal may lack characters, and a reader may close: every command prints what it can and ends as usual."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from kd.records.ledger import FINISHED, read_sweep
from kd.runtime.streams import open_streams
from tests import quickly
from tests.conftest import CONF
from tests.pipeline.test_run import SMALL

QUICK = [*SMALL, "teacher=tiny_cnn", "teacher.width=1", "tracking=disabled", "report=false"]
COMMANDS = {
    "kd.run": ["--help", "--cfg job", "--info all", "--hydra-help", "data=folder", "--cfg nothing"],
    "kd.zoo": ["methods --markdown", "methods hinton --json", "--help", "nothing"],
    "kd.report": ["RUN", "SWEEP", "SWEEP --latex", "--help", "nothing"],
    "kd.dashboard": ["--dry-run", "--help"],
    "kd.chaos": ["--help", "--runs 0"],
}
WRONG = {"data=folder", "--cfg nothing", "nothing", "--runs 0"}  # exit code 2, and a message on stderr


def environment(outputs: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "PYTHONUTF8")}
    return kept | {"KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)} | more


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """The outputs of a sweep of one cell whose name has characters that its Latin-1 terminal lacks."""
    place = tmp_path_factory.mktemp("few signs")
    env = environment(place / "outputs", PYTHONIOENCODING="latin-1")
    done = quickly.run("kd.run", "-m", "kd.alpha=choice(0.5)", "sweep='été ─ 图'", *QUICK, cwd=place, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "?" in done.stdout and "1 of 1 finished" in done.stdout
    assert read_sweep(place / "outputs" / "sweeps" / "été ─ 图").count(*FINISHED) == 1
    return place / "outputs"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "cp1252"])
def test_a_finished_run_is_shown_on_any_terminal(swept, encoding):
    env = environment(swept, PYTHONIOENCODING=encoding)
    done = quickly.run("kd.run", "kd.alpha=0.5", *QUICK, cwd=swept.parent, env=env)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "accuracy" in done.stdout and "is reused" in done.stdout
    (run,) = (swept / "runs").iterdir()
    done = quickly.run("kd.report", str(run), cwd=swept.parent, env=env)
    assert done.returncode == 0 and "Report: " in done.stdout and not done.stderr, done.stderr


def test_in_the_posix_locale_too(swept):
    env = environment(swept, LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    env.pop("LANG", None)
    done = quickly.run("kd.run", "kd.alpha=0.5", *QUICK, cwd=swept.parent, env=env, forked=False)
    assert done.returncode == 0 and "is reused" in done.stdout and not done.stderr, done.stderr


@pytest.mark.parametrize(("module", "arguments"), [(module, line) for module in COMMANDS for line in COMMANDS[module]])
def test_a_reader_may_close_before_the_first_word(swept, module, arguments):
    if module == "kd.dashboard":
        pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")
    (run,), (sweep,) = (swept / "runs").iterdir(), (swept / "sweeps").iterdir()
    words = [{"RUN": str(run), "SWEEP": str(sweep)}.get(word, word) for word in arguments.split()]
    reader, writer = os.pipe()
    os.close(reader)
    done = quickly.run(module, *words, cwd=swept.parent, env=environment(swept), stdout=writer)
    os.close(writer)
    assert done.returncode == (2 if arguments in WRONG else 0), done.stderr
    assert bool(done.stderr) is (arguments in WRONG) and "Broken" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_python_itself_prints_nothing_about_it_at_exit(swept, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    env = environment(swept, PYTHONUNBUFFERED=unbuffered)
    done = quickly.run("kd.run", "--help", cwd=swept.parent, env=env, stdout=writer, forked=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_may_be_closed(swept):
    master, slave = os.openpty()
    os.close(master)
    done = quickly.run("kd.zoo", "data", cwd=swept.parent, env=environment(swept), stdout=slave)
    os.close(slave)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stream_keeps_its_encoding_and_a_chosen_error_handler(monkeypatch):
    chosen, strict = (io.TextIOWrapper(io.BytesIO(), "latin-1", errors) for errors in ("xmlcharrefreplace", "strict"))
    monkeypatch.setattr(sys, "stdout", chosen)
    monkeypatch.setattr(sys, "stderr", strict)
    open_streams()
    print("é─", flush=True)
    print("é─", file=sys.stderr, flush=True)
    assert chosen.buffer.getvalue() == b"\xe9&#9472;\n" and strict.buffer.getvalue() == b"\xe9?\n"


@pytest.mark.parametrize("stream", [None, io.StringIO(), object()], ids=["closed", "a string", "of a notebook"])
def test_a_stream_may_have_no_file(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    open_streams()
    assert sys.stdout is stream if stream else sys.stdout.write("─")


def test_other_errors_of_a_stream_are_raised():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs a device that is always full")
    with open("/dev/full", "w") as full:
        done = quickly.run("kd.zoo", "data", cwd=CONF.parent, env=environment(Path()), stdout=full.fileno())
    assert done.returncode != 0 and "No space left" in done.stderr
