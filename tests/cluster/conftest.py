"""Real clusters on this machine: ``pytest -m cluster tests/cluster``. Each test ends the processes that it starts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.cluster.command import SMALL, TEMPERATURES, end, environment, has, students, sweep


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def place():
    """A folder with a short path, for sockets; removed after the test. Its path marks the processes of the test."""
    folder = Path(tempfile.mkdtemp(prefix="kd-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        end(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(home, tmp_path_factory) -> tuple[Path, str]:
    """Outputs folder and output of an undisturbed sweep of four cells, in two processes if joblib is installed."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    launcher = "joblib" if has("joblib") else "basic"
    overrides = [f"hydra/launcher={launcher}", f"kd.temperature={TEMPERATURES}", *SMALL]
    return cwd / "outputs", sweep(*overrides, cwd=cwd, env=environment(home))


@pytest.fixture(scope="session")
def expected(undisturbed) -> dict[str, str]:
    return students(undisturbed[0])
