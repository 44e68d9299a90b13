"""What the README tells people to write works as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
FILE = re.compile(r"`((?:kd|conf)/[\w/]+\.(?:py|yaml))`(?:, whose [^\n]*)?:\n\n```\w+\n(.*?)```", re.DOTALL)


def test_the_method_attention_student_and_data_set_that_it_adds_run(tmp_path):
    for part in ("kd", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(files) == 8, "two each"
    for name, text in files:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text, encoding="utf-8")
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 150), ("val", 20), ("test", 60)):
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 3
        noise = draw.integers(0, 100, (count, 28, 28, 3))
        arrays[f"{split}_images"] = (noise + 70 * arrays[f"{split}_labels"][:, :, None, None]).astype(np.uint8)
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    tiny = [line for line in TINY if not line.startswith("data.") or "val_fraction" in line]
    chosen = ["data=medmnist", "data.archive=bloodmnist.npz", "kd=mse", "kd.alpha=0.3", "attention=sge"]
    chosen += ["teacher=tiny_cnn", "student=mixer", "student.width=0.5", "tracking=disabled", "report=false"]
    short = ["train.teacher.epochs=1", "train.student.epochs=1", "latency.seconds=0.02", "outputs=outputs"]
    done = subprocess.run(
        [sys.executable, "-m", "kd.run", *tiny, *chosen, *short],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "outputs" / "runs").glob("*/result.json")
    choices = json.loads(result.read_text(encoding="utf-8"))["choices"]
    assert {"data": "medmnist", "attention": "sge", "student": "mixer", "kd": "mse"}.items() <= choices.items()
