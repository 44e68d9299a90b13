"""What is built is what is used: the configs travel with the package."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_carries_code_and_configs_and_runs_from_anywhere(tmp_path):
    build = (
        f"from setuptools import build_meta as b; import os; os.chdir({str(ROOT)!r}); b.build_wheel({str(tmp_path)!r})"
    )
    quiet = {"cwd": tmp_path, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-c", build], check=True, **quiet)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    for folder, inside in (("conf", "kd/conf"), ("kd", "kd")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yaml", ".py"):
                assert f"{inside}/{path.relative_to(ROOT / folder)}" in names
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-m", "kd.run", "--cfg", "job", "teacher=resnet34"], check=True, env=environment, **quiet
    )
    assert "name: resnet34" in done.stdout
