"""An exported folder goes to a hub over real HTTP, large files too; what stops it says so in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd.export.card import write_card
from tests.export.hub_server import TOKEN, Hub
from tests.export.test_card import REPORT, make_model, make_run

ROOT = Path(__file__).parents[2]
PUSH = (
    "import sys, pathlib\n"
    "from kd.export.push import push\n"
    "try: print(push(pathlib.Path(sys.argv[1]), sys.argv[2]))\n"
    "except ValueError as error: sys.exit(f'kd.export: {error}')\n"
)


@pytest.fixture
def deploy(tmp_path) -> Path:
    folder = tmp_path / "home/outputs/deploy"
    folder.mkdir(parents=True)
    make_run(tmp_path / "run")
    (folder / "student.onnx").write_bytes(os.urandom(70_000))
    (folder / "page").mkdir()
    (folder / "page/index.html").write_text("<!doctype html>", encoding="utf-8")
    (folder / "page/runtime.wasm").write_bytes(b"built in " + str(tmp_path / "home").encode() + b"/")
    write_card(folder, make_model(), tmp_path / "run", REPORT)
    return folder


@pytest.fixture
def hub():
    with Hub() as server:
        yield server


def command(deploy: Path, repo: str, endpoint: str, token: str | None = TOKEN, **variables: str):
    home = deploy.parents[1]
    names = ("PATH", "LANG", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"HF_HOME": str(home / "hf"), "HF_ENDPOINT": endpoint, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_DISABLE_XET": "1", **({"HF_TOKEN": token} if token else {}), **variables}
    return subprocess.run(
        [sys.executable, "-c", PUSH, str(deploy), repo], env=environment, capture_output=True, text=True, cwd=home
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_arrives_whole_and_again_as_a_second_commit(deploy, hub):
    done = command(deploy, "my-team/scenes", hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/my-team/scenes" and done.stderr == ""
    assert hub.files["my-team/scenes"] == contents(deploy)
    assert len(hub.blobs) == 2  # student.onnx and model.safetensors came by Git LFS
    (deploy / "report.md").write_text("new", encoding="utf-8")
    assert command(deploy, "my-team/scenes", hub.url).returncode == 0
    assert hub.files["my-team/scenes"] == contents(deploy) and len(hub.commits) == 2


@pytest.mark.parametrize(
    ("variables", "token", "says"),
    [
        ({"HF_HUB_OFFLINE": "1"}, TOKEN, "HF_HUB_OFFLINE is set"),
        ({}, None, "there is no token"),
        ({}, "hf_wrong", "does not accept the token"),
    ],
)
def test_without_network_or_token_it_is_one_line_and_nothing_is_lost(variables, token, says, deploy, hub):
    before = contents(deploy)
    done = command(deploy, "my-team/scenes", hub.url, token, **variables)
    assert done.returncode == 1 and says in done.stderr and len(done.stderr.splitlines()) == 1
    assert contents(deploy) == before and not hub.commits


def test_a_hub_that_does_not_answer_is_one_line(deploy):
    with Hub() as hub:
        pass
    done = command(deploy, "my-team/scenes", hub.url)
    assert done.returncode == 1 and "was not pushed" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_refusal_of_the_hub_is_one_line(deploy, hub):
    hub.read_only.add("their-team")
    done = command(deploy, "their-team/scenes", hub.url)
    assert done.returncode == 1 and "may not write there" in done.stderr and len(done.stderr.splitlines()) == 1
    hub.broken = True
    done = command(deploy, "my-team/scenes", hub.url)
    assert done.returncode == 1 and "was not pushed" in done.stderr and len(done.stderr.splitlines()) == 1
    assert TOKEN not in done.stderr and not hub.commits
    hub.broken = False
    assert command(deploy, "my-team/scenes", hub.url).returncode == 0


@pytest.mark.parametrize("repo", ["scenes", "a/b/c", "my team/x", "my-team/", "../x"])
def test_a_name_that_is_none_of_the_hub_is_refused(repo, deploy, hub):
    done = command(deploy, repo, hub.url)
    assert done.returncode == 1 and f"--push {repo}" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not hub.requests


def test_a_file_that_names_a_folder_of_this_machine_is_not_pushed(deploy, hub):
    (deploy / "report.json").write_text(f'{{"data": "{deploy.parents[1]}/pictures"}}', encoding="utf-8")
    done = command(deploy, "my-team/scenes", hub.url)
    assert done.returncode == 1 and "report.json names" in done.stderr and not hub.requests
    assert "export again" in done.stderr and f"hf upload my-team/scenes {deploy}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_a_card_is_refused(deploy, hub):
    (deploy / "README.md").unlink()
    assert "export the run first" in command(deploy, "my-team/scenes", hub.url).stderr
