"""Runs that are killed at random moments, or run out of disk, end with the same results bit for bit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kd.chaos import differences

ROOT = Path(__file__).parents[1]
QUICK = ["tracking=disabled", "report=false", "baseline=false", "latency.seconds=0.005"]
QUICK += ["data.train_images=72", "data.test_images=30", "train.teacher.epochs=2", "train.student.epochs=3"]


def chaos(folder: Path, runs: int, seed: int, *more: str) -> str:
    command = [sys.executable, "-m", "kd.chaos", f"--runs={runs}", f"--seed={seed}", f"--folder={folder}", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos")
    return folder, chaos(folder, 20, 6, "--stories=2", *QUICK)


def test_twenty_kills_lose_nothing(twenty):
    """Without figures and W&B, which take most of the time: the test of a hundred kills has them."""
    assert re.search(r"^20 killed, \d+ disks full, 0 differences \(--seed 6\)$", twenty[1], re.MULTILINE)
    met = re.search("killed by stage: (.*)", twenty[1]).group(1)
    assert len(met.split(", ")) >= 4, met  # fewer stages would test little


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path):
    assert re.search(r"^100 killed, \d+ disks full, 0 differences", chaos(tmp_path, 100, 0), re.MULTILINE)


def test_a_difference_would_be_seen(twenty, tmp_path):
    peace = twenty[0] / "average-peace"
    war = tmp_path / "war"
    shutil.copytree(peace, war)
    (run,) = (war / "runs").iterdir()
    for name in ("config.yaml", "result.json"):  # they name the outputs folder
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(text.replace(str(peace), str(war)), encoding="utf-8")
    assert not differences(peace, war)

    def seen(path: Path, text: bytes) -> str:
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        (found,) = differences(peace, war)
        path.unlink() if before is None else path.write_bytes(before)
        return found

    metrics = (run / "metrics.jsonl").read_bytes()
    assert "metrics.jsonl differs" in seen(run / "metrics.jsonl", metrics + metrics.splitlines(keepends=True)[-1])
    weights = bytearray((run / "student.safetensors").read_bytes())
    weights[-1] ^= 1
    assert "student.safetensors differs" in seen(run / "student.safetensors", bytes(weights))
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result["student"]["accuracy"] += 1e-9
    assert "result.json differs" in seen(run / "result.json", json.dumps(result).encode())
    assert "left over" in seen(war / "unfinished" / "students-abc" / "000000001-abc.pt", b"")
