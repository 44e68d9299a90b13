"""A browser, and the page of a small student."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kd.data.sizing import Sizing
from kd.export.page import ASSETS, pick_examples, write_page
from kd.export.page.ort_web import runtime_files
from tests.browser import Browser, find
from tests.export.page.trained import Trained, export, served, train


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        pytest.skip("no Chromium on this machine: install chromium, or name one in CHROME, to test the page")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.size(1280, 900)
        yield opened


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, browser) -> Path:
    """A served folder with the page's scripts and without a network; the browser has opened a file of it."""
    folder = tmp_path_factory.mktemp("scripts")
    for path in ASSETS.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "empty.html").write_text("<!doctype html>", encoding="utf-8")
    with served(folder) as address:
        browser.open(f"{address}empty.html")
        yield folder


@pytest.fixture(scope="session")
def runtime(tmp_path_factory) -> Path:
    """A folder of onnxruntime-web, from the user's cache or fetched if npm can."""
    try:
        files = runtime_files()
    except ValueError as error:
        pytest.skip(f"no onnxruntime-web on this machine: {error}")
    folder = tmp_path_factory.mktemp("runtime")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    return train(tmp_path_factory.mktemp("store"), Sizing(32, 40, crop_pct=0.9))


@pytest.fixture(scope="session")
def page(tmp_path_factory, trained, runtime) -> Path:
    deploy = tmp_path_factory.mktemp("deploy")
    description = trained.student.description
    export(trained.student, description, deploy)
    return write_page(deploy, description, pick_examples(trained.dataset, trained.predictions, description.key))
