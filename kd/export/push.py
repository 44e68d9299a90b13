"""Upload an exported folder to the Hugging Face hub, or to a server that speaks its protocol.

``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and the login of ``hf auth login`` count, as in any program that uses
huggingface_hub. The folder itself is only read: a push that failed can be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import kd
from kd.runtime.connection import check_url
from kd.runtime.errors import first_line
from kd.tracking.redact import without_secrets

OF_OTHERS = {".wasm", ".js", ".mjs"}  # runtimes that the page ships; their builds name folders of their own machines
DENIED = {401: "the hub does not accept the token", 403: "the token may not write there"}


def push(deploy: Path, repo: str) -> str:
    """Create the repository if there is none, upload the folder as one commit, and return the address.

    Args:
        repo: ORG/NAME.

    Raises:
        ValueError: the name is none of the hub, there is no card, no token or no network, the hub refuses, or a file
            names a folder of this machine. One sentence; nothing in ``deploy`` was changed.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    check_name(repo)
    if not (deploy / "README.md").is_file():
        raise ValueError(f"{deploy} has no README.md: export the run first")
    _check_paths(deploy, repo)
    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"HF_HUB_OFFLINE is set, so nothing was pushed; {deploy} is complete")
    if get_token() is None:
        raise ValueError(
            f"there is no token for {endpoint}, so nothing was pushed: run `hf auth login`, or set HF_TOKEN; {deploy} "
            "is complete"
        )
    if not (sys.stderr and sys.stderr.isatty()):
        disable_progress_bars()  # in a log each step of a bar is a line
    try:
        check_url(endpoint)
        api = HfApi()
        address = api.create_repo(repo, exist_ok=True)
        message = f"Student exported by kd {kd.__version__}"
        api.upload_folder(repo_id=repo, folder_path=deploy, commit_message=message)
    except Exception as error:  # of httpx, of the library, of its Xet client, or of the file system
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        reason = DENIED.get(status) or without_secrets(first_line(error))
        raise ValueError(f"{repo} was not pushed to {endpoint}: {reason}; {deploy} is complete") from error
    return str(address)


def check_name(repo: str) -> None:
    """Raise ValueError for a name that is none of the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(f"--push {repo}: {first_line(error)}") from error
    if repo.count("/") != 1:
        raise ValueError(f"--push {repo}: name the repository as ORG/NAME, such as my-team/scene-student")


def _check_paths(deploy: Path, repo: str) -> None:
    """Raise ValueError if a file names a folder of this machine: whoever downloads it would read the name."""
    folders = sorted(_own_folders(deploy))
    for path in sorted(deploy.rglob("*")):
        if path.suffix in OF_OTHERS or not path.is_file():
            continue
        content = path.read_bytes()
        named = next((folder for folder in folders if f"{folder}/".encode() in content), None)
        if named:
            raise ValueError(
                f"{path} names {named}, a folder of this machine, so nothing was pushed: take it out of what it came "
                "from (the name of the run or of a class, a note of the data, --licence) and export again, or upload "
                f"the folder as it is: hf upload {repo} {deploy}"
            )


def _own_folders(deploy: Path) -> Iterator[str]:
    """Yield folders that only this machine has; not those that any machine has, such as /tmp."""
    yield str(Path.home())
    for folder in (deploy.resolve().parent, Path.cwd(), Path(kd.__file__).resolve().parents[1], Path(sys.prefix)):
        if len(folder.parts) > 2:
            yield str(folder)
