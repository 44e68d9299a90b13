"""The runtime of the page: two files of the npm package onnxruntime-web, pinned and checked.

They come from the folder or archive that the user names, from the user's cache, or from npm, in this order. npm follows
the user's own configuration, so a mirror or a proxy works.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from kd.runtime.console import print_line

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"  # the name that npm gives it
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The smallest set that runs in one thread: the module has the glue code inside. {name: sha256}
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
ADVICE = f"run `npm pack {PACKAGE}` on a machine with network and pass the file: --ort-web {ARCHIVE}"
SECONDS = 600  # for npm, which downloads 33 MB
# npm's own patience is three and a half minutes without a network
NPM = ("pack", PACKAGE, "--ignore-scripts", "--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def runtime_files(given: Path | None = None) -> dict[str, bytes]:
    """Return the files of onnxruntime-web that the page needs, {name: content}.

    Args:
        given: the unpacked package, its folder ``dist``, or the archive that ``npm pack`` writes; None to look into the
            user's cache and then to ask npm.

    Raises:
        ValueError: they cannot be had, or are of another version; the message says what to do.
    """
    if given is not None:
        return _from_archive(given) if given.is_file() else _from_folder(given)
    cache = cache_folder()
    with suppress(ValueError):  # not there yet, or damaged
        return _from_folder(cache)
    files = _from_npm()
    with suppress(OSError):  # a home that cannot be written: the next export asks npm again
        cache.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            partial = cache / f".{name}.{os.getpid()}"
            partial.write_bytes(content)
            os.replace(partial, cache / name)
    return files


def cache_folder() -> Path:
    """Return where the files are kept for the next export: in the user's cache folder."""
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "kd" / f"onnxruntime-web-{VERSION}"


def _from_folder(folder: Path) -> dict[str, bytes]:
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    files = {}
    for name, expected in FILES.items():
        try:
            files[name] = (dist / name).read_bytes()
        except OSError as error:
            raise ValueError(
                f"{dist} has no readable {name}: name the folder of the unpacked npm package {PACKAGE}, or its archive"
            ) from error
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise ValueError(f"{dist / name} is not that of {PACKAGE}, the version that the page is made for")
    return files


def _from_archive(archive: Path) -> dict[str, bytes]:
    content = archive.read_bytes()
    if "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise ValueError(f"{archive} is damaged, or not the archive that `npm pack {PACKAGE}` writes")
    with tarfile.open(archive) as opened:  # its integrity is checked: members can be trusted to be there
        return {name: opened.extractfile(f"package/dist/{name}").read() for name in FILES}


def _from_npm() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"the page needs {PACKAGE}, and there is no npm to fetch it: install npm, or {ADVICE}")
    print_line(f"fetching {PACKAGE} with npm, once: 33 MB")
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([npm, *NPM], cwd=folder, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"npm did not fetch {PACKAGE} within {SECONDS} s: {ADVICE}") from error
        archive = Path(folder) / ARCHIVE
        if done.returncode or not archive.is_file():
            reason = _reason(done.stderr)
            raise ValueError(f"npm could not fetch {PACKAGE}{reason}: {ADVICE}")
        return _from_archive(archive)


def _reason(output: str) -> str:
    """Return the code of npm's error in brackets, such as " (E404)", "" if it names none."""
    codes = [line.split()[-1] for line in output.splitlines() if " code " in line]
    return f" ({codes[0]})" if codes else ""
