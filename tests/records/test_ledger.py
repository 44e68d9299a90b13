"""The ledger holds the status of every cell, whatever happens to the processes that write it."""

from __future__ import annotations

import json

import pytest

from kd.records.ledger import JobEntry, begin_sweep, cell_path, is_recorded, job_entry, read_sweep
from tests.report.sweep.fake import make_sweep

CELLS = [["kd.temperature=2"], ["kd.temperature=4"]]


def begin(folder, lasting=()):
    begin_sweep(folder, "python -m kd.run -m …", list(lasting), list(lasting), ["kd.temperature"], CELLS)
    return folder


def statuses(folder):
    return [cell.status for cell in read_sweep(folder).cells]


def test_a_cell_waits_runs_and_fails_with_its_error_and_traceback(tmp_path):
    folder = begin(tmp_path)
    assert statuses(folder) == ["waiting", "waiting"]
    with pytest.raises(ValueError), job_entry(folder, CELLS[1]):
        assert statuses(folder) == ["waiting", "running"]
        raise ValueError("too\nhot")
    failed = read_sweep(folder).cells[1]
    assert failed.status == "failed" and failed.error == "ValueError: too hot" and failed.seconds >= 0
    assert "Traceback" in json.loads(cell_path(folder, CELLS[1]).read_text())["traceback"]


def test_an_entry_that_cannot_be_written_hides_no_error(tmp_path):
    folder = begin(tmp_path)
    with pytest.raises(ArithmeticError) as caught, job_entry(folder, CELLS[0]):
        raise ArithmeticError("the loss is NaN")
    assert is_recorded(folder, CELLS[0], caught.value) and not is_recorded(folder, CELLS[0], ValueError("other"))
    with pytest.raises(ArithmeticError) as caught, job_entry(folder, CELLS[0]) as entry:
        entry.path = tmp_path / "sweep.json" / "no folder"  # as on a full disk
        (tmp_path / "sweep.json").touch()
        raise ArithmeticError("infinity")
    assert not is_recorded(folder, CELLS[0], caught.value)


def test_an_interrupted_cell_is_lost_and_has_not_failed(tmp_path):
    folder = begin(tmp_path)
    with pytest.raises(KeyboardInterrupt), job_entry(folder, CELLS[0]):
        raise KeyboardInterrupt
    assert statuses(folder) == ["lost", "waiting"]


def test_a_process_that_died_without_a_message_is_not_running(tmp_path):
    folder = begin(tmp_path)
    entry = JobEntry(folder, CELLS[0])
    entry.facts["pid"] = 2**22 + 1  # beyond every pid of Linux
    entry.write("running")
    assert statuses(folder) == ["lost", "waiting"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_cell_with_a_damaged_entry_waits(tmp_path, text):
    folder = begin(tmp_path)
    cell_path(folder, CELLS[0]).write_text(text)
    assert statuses(folder) == ["waiting", "waiting"]


def test_a_finished_cell_stays_finished_while_a_job_reads_its_result_again(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(2, 4), alphas=(0.5,), seeds=(0,))
    overrides = read_sweep(folder).cells[0].overrides
    with pytest.raises(KeyboardInterrupt), job_entry(folder, overrides):
        assert read_sweep(folder).cells[0].status == "found"
        raise KeyboardInterrupt
    assert read_sweep(folder).cells[0].status == "found"


def test_a_run_whose_result_is_gone_or_damaged_is_to_be_made_again(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(2, 4), alphas=(0.5,), seeds=(0,))
    first, second = read_sweep(folder).cells
    (first.run / "result.json").unlink()
    (second.run / "result.json").write_text('{"version": 1, "na')
    assert statuses(folder) == ["waiting", "waiting"]


def test_another_sweep_under_the_same_name_deletes_the_old_entries(tmp_path):
    folder = begin(tmp_path, ["train.student.epochs=2"])
    with pytest.raises(ValueError), job_entry(folder, CELLS[0]):
        raise ValueError
    assert statuses(begin(tmp_path, ["train.student.epochs=2"])) == ["failed", "waiting"]
    assert statuses(begin(tmp_path, ["train.student.epochs=300"])) == ["waiting", "waiting"]


def test_a_folder_that_is_no_sweep_says_what_would_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="sweep.json is missing"):
        read_sweep(tmp_path)
