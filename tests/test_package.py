"""The wheel and the console script: both find the configs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_carries_code_and_configs_and_runs_from_anywhere(tmp_path):
    source = tmp_path / "source"
    for name in ("kd", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    quiet = {"capture_output": True, "text": True}
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, **quiet)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    for folder, inside in (("conf", "kd/conf"), ("kd", "kd"), ("hydra_plugins", "hydra_plugins")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yaml", ".py", ".css", ".js"):
                assert f"{inside}/{path.relative_to(ROOT / folder)}" in names
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-m", "kd.run", "--cfg", "job", "teacher=resnet34"]
    done = subprocess.run(command, cwd=tmp_path, check=True, env=environment, **quiet)
    assert "name: resnet34" in done.stdout


def test_the_console_script_does_the_same():
    script = Path(sys.executable).parent / "kd-run"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "Groups: GROUP=OPTION" in done.stdout
