"""A stand-in for the Hugging Face hub on 127.0.0.1: what huggingface_hub asks for an upload, over real HTTP.

It creates repositories, checks the YAML of a card, takes small files inside a commit and large ones by Git LFS, and
refuses a wrong token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_" + "a" * 34
LARGE = (".onnx", ".safetensors", ".pt2", ".bin", ".png")


class Hub:
    """``with Hub() as hub``: ``hub.url``, ``hub.files`` by repository and path, ``hub.commits``, ``hub.requests``."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}  # of Git LFS, by sha256
        self.read_only: set[str] = set()  # organisations whose repositories refuse the token
        self.broken = False  # LFS answers 500
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            if about["organization"] in self.read_only:
                return 403, {"error": "You don't have the rights to create a model under this namespace"}
            answer = {"url": f"{self.url}/{name}"}
            if name in self.files:
                return 409, answer | {"error": "You already created this model repo"}
            self.files[name] = {}
            return 200, answer
        if path == "/api/validate-yaml":
            return 200, _validate(json.loads(body)["content"])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            modes = [_mode(file["path"]) for file in json.loads(body)["files"]]
            return (200, {"files": modes}) if found[1] in self.files else (404, {"error": "Repository not found"})
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            if self.broken:
                return 400, {"error": "the storage is out of order"}
            return 200, {"transfer": "basic", "objects": [self._upload(each) for each in json.loads(body)["objects"]]}
        if path == "/lfs/verify":
            about = json.loads(body)
            return (200, {}) if len(self.blobs[about["oid"]]) == about["size"] else (422, {"error": "size"})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            return 200, self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        return 404, {"error": f"nothing at {path}"}

    def put(self, path: str, body: bytes) -> tuple[int, Any]:
        oid = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "these are not the bytes of that digest"}
        self.blobs[oid] = body
        return 200, {}

    def _upload(self, about: dict[str, Any]) -> dict[str, Any]:
        if about["oid"] in self.blobs:
            return about
        actions = {"upload": {"href": f"{self.url}/lfs/{about['oid']}"}, "verify": {"href": f"{self.url}/lfs/verify"}}
        return about | {"actions": actions}

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.blobs[value["oid"]]
        oid = f"{len(self.commits):040x}"
        return {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True}


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


def _validate(content: str) -> dict[str, Any]:
    """As the hub: the header must be YAML with a known kind of entries."""
    found = yaml.safe_load(content.split("---\n")[1])
    errors = [
        {"message": f'"{name}" must be {kind.__name__}'}
        for name, kind in {"license": str, "tags": list, "datasets": list, "metrics": list, "model-index": list}.items()
        if name in found and not isinstance(found[name], kind)
    ]
    return {"errors": errors, "warnings": []}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(200, {})

        def do_GET(self) -> None:
            hub.requests.append(f"GET {self.path}")
            self._answer(404, {"error": f"nothing at {self.path}"})

        def do_POST(self) -> None:
            self._serve("POST", hub.post)

        def do_PUT(self) -> None:
            self._serve("PUT", hub.put)

        def _serve(self, verb: str, act: Any) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.requests.append(f"{verb} {path}")
            if verb == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._answer(401, {"error": "Invalid credentials in Authorization header"})
            self._answer(*act(path, body))

        def _answer(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler
