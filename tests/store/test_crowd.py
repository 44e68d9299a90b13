"""Eight commands at once on one outputs folder, and the one that trains for all of them is killed.

Run as a script, this file starts them and prints what happened.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOBS = [*(f"seed={seed}" for seed in range(7)), "seed=0"]  # the last is the first once more


def crowd(outputs: Path) -> dict:
    """Start the jobs, kill the one that trains the teacher, wait for the others, start the killed one again."""
    from kd.chaos import SMALL, code_of, import_everything, start

    import_everything()
    settings = [*SMALL, "tracking=disabled", "report=false", "baseline=false", "train.student.epochs=1"]
    settings += ["train.teacher.epochs=8"]
    jobs = {start([*settings, job], outputs): job for job in JOBS}
    while len(list(outputs.glob("unfinished/teachers-*/*.pt"))) < 2:
        time.sleep(0.002)
        assert os.waitpid(-1, os.WNOHANG)[0] == 0, "a job has ended"
    (lock,) = outputs.glob(".locks/teachers-*.lock")
    owner = int(lock.read_text().split()[0])
    before = set(outputs.glob("unfinished/teachers-*/*.pt"))
    os.kill(owner, signal.SIGKILL)
    killed = time.monotonic()
    while not set(outputs.glob("unfinished/teachers-*/*.pt")) - before and not list(outputs.glob("teachers/[!.]*")):
        time.sleep(0.002)
    taken_over = time.monotonic() - killed
    codes = {job: code_of(pid, outputs, range(-64, 256)) for pid, job in jobs.items() if pid != owner}
    os.waitpid(owner, 0)
    again = code_of(start([*settings, jobs[owner]], outputs), outputs, range(-64, 256))
    return {"owner": jobs[owner], "codes": codes, "again": again, "seconds": taken_over}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="eight processes are forked")
def test_eight_commands_train_one_teacher_though_its_trainer_is_killed(tmp_path):
    outputs = tmp_path / "outputs"
    done = subprocess.run(
        [sys.executable, __file__, str(outputs)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    log = (outputs / "log.txt").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + log[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert set(report["codes"].values()) == {0} and report["again"] == 0, log
    assert report["seconds"] < 60, "a training step or two, and no wait for a lock to expire"
    assert len(list((outputs / "teachers").iterdir())) == 1
    epochs = re.findall(r"^teacher  epoch +(\d)/8", log, re.MULTILINE)
    # an epoch prints its line after its checkpoint: a process killed in between prints none
    assert set(epochs) <= set("12345678") and 7 <= len(epochs) <= 9, "it resumed, and did not start over"
    assert len(re.findall("^teacher: resuming from", log, re.MULTILINE)) == 1
    runs = sorted((outputs / "runs").iterdir())
    assert len(runs) == 7 and all((run / "result.json").is_file() for run in runs)
    for run in runs:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [(row["stage"], row["epoch"]) for row in rows] == [
            *(("teacher", epoch) for epoch in range(1, 9)),
            ("student", 1),
        ]
        assert not (run / ".unfinished").exists()
    assert not list((outputs / "unfinished").iterdir())


if __name__ == "__main__":
    print(json.dumps(crowd(Path(sys.argv[1]))))
