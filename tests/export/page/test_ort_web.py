"""onnxruntime-web: from a folder, an archive, the cache or npm; checked, and refused in a sentence."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from kd.export.page import ort_web
from kd.export.page.ort_web import ARCHIVE, FILES, VERSION, cache_folder, runtime_files


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user without a cache, whose npm is what a test puts into ``bin``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return tmp_path


def npm(home: Path, script: str) -> None:
    path = home / "bin" / "npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_folder_its_dist_and_the_package(runtime, tmp_path):
    files = runtime_files(runtime)
    assert set(files) == set(FILES) and len(files["ort-wasm-simd-threaded.wasm"]) == 14_239_897
    (tmp_path / "package").mkdir()
    shutil.copytree(runtime, tmp_path / "package" / "dist")
    assert runtime_files(tmp_path / "package") == files == runtime_files(tmp_path / "package" / "dist")


def test_another_version_and_a_missing_file_are_refused(runtime, tmp_path):
    shutil.copytree(runtime, tmp_path / "dist")
    (tmp_path / "dist" / "ort.wasm.bundle.min.mjs").write_text("another")
    with pytest.raises(ValueError, match=rf"ort.wasm.bundle.min.mjs is not that of onnxruntime-web@{VERSION}"):
        runtime_files(tmp_path)
    with pytest.raises(ValueError, match="has no readable .*name the folder of the unpacked npm package"):
        runtime_files(tmp_path / "nothing")


def test_an_archive_that_is_not_npm_s_is_refused(tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        archive.add(tmp_path / "evil", "package/dist/ort.wasm.bundle.min.mjs")
    with pytest.raises(ValueError, match=r"is damaged, or not the archive that `npm pack onnxruntime-web@"):
        runtime_files(tmp_path / ARCHIVE)


def test_without_npm_it_says_what_to_do(home):
    with pytest.raises(ValueError, match=r"no npm to fetch it: install npm, or run `npm pack .*--ort-web onnx.*tgz"):
        runtime_files()


def test_without_a_network_it_says_what_to_do(home):
    npm(home, 'echo "npm error code EAI_AGAIN" >&2; exit 1')
    with pytest.raises(ValueError, match=r"npm could not fetch .* \(EAI_AGAIN\): run `npm pack"):
        runtime_files()
    npm(home, f"echo damaged > {ARCHIVE}")
    with pytest.raises(ValueError, match="is damaged"):
        runtime_files()
    npm(home, "exec /bin/sleep 60")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="did not fetch .* within 0.5 s"):
        patch.setattr(ort_web, "SECONDS", 0.5)
        runtime_files()
    assert not cache_folder().exists()


def test_what_npm_fetched_is_kept_and_a_damaged_copy_is_fetched_again(home, tmp_path, monkeypatch, capsys):
    """A small archive stands for the real one, with its own sums; npm itself runs in ``runtime_files`` of the page."""
    import base64
    import hashlib

    contents = {name: name.encode() for name in FILES}
    (home / "package" / "dist").mkdir(parents=True)
    for name, content in contents.items():
        (home / "package" / "dist" / name).write_bytes(content)
    with tarfile.open(home / ARCHIVE, "w:gz") as archive:
        archive.add(home / "package", "package")
    digest = base64.b64encode(hashlib.sha512((home / ARCHIVE).read_bytes()).digest()).decode()
    monkeypatch.setattr(ort_web, "INTEGRITY", f"sha512-{digest}")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(ort_web, "FILES", sums)
    npm(home, f'echo "$@" >> {home}/asked; /bin/cp {home / ARCHIVE} .')
    assert runtime_files() == contents == runtime_files() == runtime_files(home / ARCHIVE)
    asked = (home / "asked").read_text().splitlines()
    assert len(asked) == 1 and asked[0].startswith(f"pack onnxruntime-web@{VERSION} ")
    assert capsys.readouterr().out == f"fetching onnxruntime-web@{VERSION} with npm, once: 33 MB\n"
    (cache_folder() / "ort.wasm.bundle.min.mjs").write_bytes(b"cut")
    assert runtime_files() == contents
    assert len((home / "asked").read_text().splitlines()) == 2
    assert sorted(os.listdir(cache_folder())) == sorted(FILES)


def test_a_home_that_cannot_be_written_is_no_error(home, monkeypatch):
    (home / "cache").write_text("a file in the way")
    monkeypatch.setattr(ort_web, "_from_npm", lambda: {"a": b""})
    assert runtime_files() == {"a": b""}
