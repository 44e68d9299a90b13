"""What the README and the pages under Extending tell people to write works as it is printed."""

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
PAGES = sorted((ROOT / "docs").glob("add-*.md"))
FILE = re.compile(r"`((?:kd|conf)/[\w/]+\.(?:py|yaml))`(?:, whose [^\n]*)?:\n\n```\w+\n(.*?)```", re.DOTALL)


def shown(page: Path) -> dict[str, str]:
    """The files that a page tells its reader to write: path -> text."""
    return dict(FILE.findall(page.read_text(encoding="utf-8")))


def test_the_method_attention_student_data_set_and_augmentation_that_the_pages_add_run(tmp_path):
    for part in ("kd", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    assert [len(shown(page)) for page in PAGES] == [2, 2, 2, 2, 2], "two files each"
    for name, text in (file for page in PAGES for file in shown(page).items()):
        assert not (tmp_path / name).exists()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 150), ("val", 20), ("test", 60)):
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 3
        noise = draw.integers(0, 100, (count, 28, 28, 3))
        arrays[f"{split}_images"] = (noise + 70 * arrays[f"{split}_labels"][:, :, None, None]).astype(np.uint8)
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    tiny = [line for line in TINY if not line.startswith("data.") or "val_fraction" in line]
    chosen = ["data=medmnist", "data.archive=bloodmnist.npz", "kd=mse", "kd.alpha=0.3", "attention=sge", "augment=grey"]
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
    assert "kd.augment.grey.RandomGrey" in (result.parent / "config.yaml").read_text(encoding="utf-8")


def test_the_example_of_the_readme_is_the_one_of_its_page():
    page = shown(ROOT / "docs" / "add-a-method.md")
    assert shown(ROOT / "README.md").items() <= page.items() and shown(ROOT / "README.md")
