"""What W&B receives names no secret and no path of this machine: the functions, and what was really sent."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from kd.runtime.console import display_path
from kd.tracking.redact import WITHHELD, redact, without_secrets
from tests.tracking.scenario import play
from tests.tracking.wandb_server import Server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/images", "images"),
        ("/home/some body/my images", "my images"),
        ("~/data", "data"),
        ("C:\\Users\\some body\\data", "data"),
        ("\\\\server\\share\\data", "data"),
        ("of /home/me/data: 3 files, and (/tmp/x/y)", "of data: 3 files, and (y)"),
        ("data.root=/home/me/p", "data.root=p"),
        ("['/a/b', \"/c/d\"]", "['b', \"d\"]"),
        ("file:///home/me/x", "x"),
        ("https://somebody:pass@host:80/a/b", "https://host:80/a/b"),
        ("https://host/get?token=abcdef&size=3", f"https://host/get?token={WITHHELD}&size=3"),
        ("password: hunter2", f"password: {WITHHELD}"),
        ("pwd=hunter2", f"pwd={WITHHELD}"),
        ("Authorization: Bearer abc.def-g", f"Authorization: Bearer {WITHHELD}"),
        ("see ~bob/lab/x.png", "see x.png"),
        ("s3://bucket/data", "s3://bucket/data"),
        ("a/b", "a/b"),
        ("120 images / s", "120 images / s"),
        (["/a/b", ["/c/d", 3]], ["b", ["d", 3]]),
        (
            {"root": "/a/b", "in": {"api_key": 17, "list": ["/c/d"]}},
            {"root": "b", "in": {"api_key": WITHHELD, "list": ["d"]}},
        ),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_a_path_keeps_its_last_part_only_and_a_login_is_removed(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "data.hub_token",
        "wandb.api_key",
        "a.password",
        "x.secret.y",
        "credentials",
        "hubToken",
        "private_key",
        "db.pwd",
    ],
)
def test_a_setting_whose_name_says_secret_is_withheld(name):
    assert redact({name: "anything"}) == {name: WITHHELD}


@pytest.mark.parametrize("name", ["reg_tokens", "key", "keys", "passes", "student.class_token"])
def test_an_innocent_setting_is_not(name):
    value = True if name.endswith("class_token") else "anything"
    assert redact({name: value}) == {name: value}


def test_what_the_environment_keeps_secret_is_withheld_wherever_it_appears(monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    monkeypatch.setenv("SORT_KEY", "accuracy")
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("OLDPWD", "/home")
    assert without_secrets("connect as hunter2 in /home") == f"connect as {WITHHELD} in /home"
    assert without_secrets("401 for 0123456789abcdef: accuracy") == f"401 for {WITHHELD}: accuracy"


def test_a_user_without_a_home_and_a_working_folder_that_was_removed_are_no_error(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert redact("of /a/b") == "of b" and display_path(tmp_path) == str(tmp_path)


SCENARIO = """
from PIL import Image
from kd.tracking.sweep_report import publish_report

data = "/home/somebody/secret-lab/images"
config = {"data.root": data, "outputs": str(root), "data.roots": [data, {"more": str(Path.home() / "deep" / "x")}],
          "data.token": "tok-hunter-1", "kd.api_key": "key-hunter-2", "a.password": "pw-hunter-3", "seed": 0,
          "data.url": "https://user:pass-hunter-4@host/x", "note": "see " + data,
          "said": "401 for " + os.environ["WANDB_API_KEY"]}
result = {"student": {"accuracy": 0.8, "weights": str(root / "student.safetensors")}, "error": data,
          "data": {"name": "of " + data, "source": "https://user:pass-hunter-4@host/x"},
          "choices": {"kd": "hinton", "hub_token": "tok-hunter-1"}}
tables = {"cells": [{"where": data, "T": 4, "api_key": "key-hunter-2", "run": data}]}
Path(root).mkdir(parents=True)
Image.new("RGB", (40, 20), "red").save(root / "confusion.png")
(root / "student.safetensors").write_bytes(b"weights" * 1000)
for mode in ("offline", "online"):
    more = {"mode": mode, "timeout": 5, "config": config, "group": data, "tags": [data]}
    with tracker(mode, **more) as t:
        t.sibling("teacher", run_id="id-teacher-" + mode, name="of " + data)
        rows(t, "teacher", 2)
        rows(t, "student", 2)
        t.finish(result, {"confusion": root / "confusion.png"}, tables, {"student": root / "student.safetensors"})
    publish_report(root, run_id="id-report-" + mode, name="report of " + data, config=config, mode=mode,
                   figures={"accuracy": root / "confusion.png"}, tables=tables, summary=result)
with tracker("last", mode="offline") as t:
    t.finish(result, {"with " + os.environ["WANDB_API_KEY"]: root / "nothing.png"}, {}, {})
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("left")
    with Server() as server:
        key = "local" + "1234567890abcdef" * 2 + "01234567"
        done, _ = play(tmp_path, SCENARIO, **server.environment() | {"WANDB_API_KEY": key})
        assert done.returncode == 0, done.stderr
        yield tmp_path / "outputs", server, key, done


def secrets(outputs, key: str) -> list[bytes]:
    """What may not leave; ``outputs`` lies below HOME's parent and the working folder."""
    words = [key, "hunter", "somebody", "secret-lab", str(outputs.parent)]
    return [word.encode() for word in [*words, platform.node()] if len(word) > 3]


def test_what_a_server_received_names_no_secret_and_no_path(left):
    outputs, server, key, _ = left
    assert len(server.heard) > 20 and any(b"hinton" in body for body in server.heard)
    for body in server.heard:
        body = re.sub(rb'"local_path":"[^"]*"', b"", body)  # in the manifest of an artifact or a table: as documented
        assert not [word for word in secrets(outputs, key) if word in body], body[:2000]


def test_what_wandb_sync_would_send_names_none_either(left):
    outputs, _, key, _ = left
    files = [path for path in (outputs / "wandb").glob("*run-*/**/*") if path.is_file() and path.parent.name != "logs"]
    assert len([path for path in files if path.suffix == ".wandb"]) == 7 and len(files) > 20
    for path in files:
        data = path.read_bytes().replace(f"{outputs}/wandb/".encode(), b"")  # which a manifest names
        assert not [word for word in secrets(outputs, key) if word in data], path
    everywhere = [path for path in outputs.rglob("*") if path.is_file()]
    assert not [path for path in everywhere if key.encode() in path.read_bytes()], "logs too, which stay here"


def test_a_warning_names_no_secret(left):
    _, _, key, done = left
    assert f"reading figure with {WITHHELD}" in done.stderr and key not in done.stdout + done.stderr
