"""A stand-in for W&B's server on 127.0.0.1: the requests with which wandb 0.31 sends a run, and no user interface.

``with Server() as server:`` and, for a process that talks to it, ``server.environment()``. What arrived is in
``server.runs``, ``server.artifacts`` and ``server.views``, and the raw requests in ``server.heard``. A process
that cannot reach these attributes switches it by ``GET /switch?down=1`` and asks ``GET /rows`` how far each run is. The
protocol is not documented: this is what wandb-core, ``wandb sync`` and wandb-workspaces were seen to ask. An operation
that is not known here is answered by an error that names it, as W&B does.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ENTITY = "lab"
DAY = "2026-01-01T00:00:00"
STREAMS = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "events", "output.log": "lines"}


@dataclass
class Run:
    """A run as the server has it."""

    id: str
    project: str
    name: str = ""
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    stored_config: str = "{}"
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None  # None: it did not end
    started: int = 0  # how often wandb.init or wandb sync came for it
    sweep: str | None = None
    notes: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The config without the envelope in which W&B stores each value, and without wandb's own entry."""
        return {key: entry["value"] for key, entry in json.loads(self.stored_config).items() if key != "_wandb"}


@dataclass
class Artifact:
    """An artifact as the server has it: ``files`` holds what was really uploaded."""

    name: str
    type: str
    digest: str
    run: str
    state: str = "PENDING"
    metadata: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class Server:
    """The server, and what it received."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.views: list[dict[str, Any]] = []  # workspaces that were saved
        self.asked: list[str] = []  # GraphQL operations
        self.down = False  # every request is answered by 503
        self.stalled = False  # requests are accepted and not answered
        self.strange = False  # no key is known here
        self.delay = 0.0  # seconds before any answer
        self.heard: list[bytes] = []  # bodies of requests
        self.refused = ""  # a GraphQL operation that is answered by an error
        self.sweeps: dict[str, str] = {}  # what `wandb sweep` was given, as yaml
        self.waiting: list[dict[str, Any]] = []  # the parameters of the runs that an agent will start
        self._lock = threading.RLock()
        self._released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"server_of": self}))
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that was killed hangs up in the middle
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def environment(self) -> dict[str, str]:
        """What makes wandb use this server, and try again soon after an outage."""
        waits = {
            f"WANDB_X_{kind}_RETRY_WAIT_{limit}_SECONDS": "0.2"
            for kind in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL")
            for limit in ("MIN", "MAX")
        }
        often = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}  # seconds; of less wandb makes its 15
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "local" + "0" * 40} | waits | often

    def artifact(self, name: str) -> Artifact:
        (found,) = (artifact for artifact in self.artifacts.values() if artifact.name == name)
        return found

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    # what a request does; each returns the answer

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        with self._lock:
            if path == "/graphql":
                return self._graphql(json.loads(body))
            if path.endswith("/file_stream"):
                return self._stream(path.split("/")[-2], json.loads(body))
        return {}  # telemetry

    def put(self, path: str, body: bytes) -> dict[str, Any]:
        kind, owner, name = path.lstrip("/").split("/", 2)
        with self._lock:
            if kind == "run":
                self.runs[owner].files[name] = body
            elif kind == "artifact":
                self.artifacts[owner].files[name] = body
            elif kind == "manifest":
                self.artifacts[owner].manifest = json.loads(body)
        return {}

    def _stream(self, run_id: str, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[run_id]
        for name, part in (sent.get("files") or {}).items():
            if name == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])
            elif name in STREAMS:
                stored = getattr(run, STREAMS[name])
                lines = part["content"]
                stored[part["offset"] :] = lines if name == "output.log" else [json.loads(line) for line in lines]
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")
        return {"exitcode": None, "limits": {}}

    def _graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", request["query"])
        name = found[1] if found else "?"
        self.asked.append(name)
        answer = getattr(self, f"_on_{name}", None)
        if answer is None or name == self.refused:
            return {"data": None, "errors": [{"message": f"the stand-in server does not do {name}"}]}
        return {"data": answer(request.get("variables") or {})}

    def _on_Viewer(self, _: dict) -> dict:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}}

    def _on_ServerFeaturesQuery(self, _: dict) -> dict:
        return {"serverInfo": {"features": []}}

    def _bucket(self, run: Run) -> dict[str, Any]:
        tail = [json.dumps(row) for row in run.history[-1:]]
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}}
        return {
            "id": f"id-{run.id}",
            "name": run.id,
            "displayName": run.name,
            "description": "",
            "notes": None,
            "sweepName": None,
            "project": project,
            "tags": run.tags,
            "config": run.stored_config,
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "historyTail": json.dumps(tail),
            "eventsLineCount": len(run.events),
            "eventsTail": "[]",
            "logLineCount": len(run.lines),
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _on_UpsertBucket(self, variables: dict) -> dict:
        run = self.runs.setdefault(variables["name"], Run(variables["name"], variables["project"]))
        new = run.started == 0
        run.started += 1
        run.stored_config = variables.get("config") or run.stored_config
        run.name = variables.get("displayName") or run.name or run.id
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.tags = variables.get("tags") or run.tags
        run.sweep = variables.get("sweep") or run.sweep
        run.notes = variables.get("notes") or run.notes
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": new}}

    def _on_RunResumeStatus(self, variables: dict) -> dict:
        run = self.runs.get(variables["name"])
        model = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}}
        return {"model": model | {"bucket": self._bucket(run) if run else None}}

    def _on_CreateRunFiles(self, variables: dict) -> dict:
        place = f"{self.url}/run/{variables['run']}"
        files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _on_CreateArtifact(self, variables: dict) -> dict:
        about = variables["input"]
        name, digest = about["artifactCollectionName"], about["digest"]
        for key, old in self.artifacts.items():  # the same content is not sent twice
            if (old.name, old.digest, old.state) == (name, digest, "COMMITTED"):
                return {"createArtifact": {"artifact": self._artifact(key)}}
        key = str(len(self.artifacts) + 1)
        metadata = json.loads(about.get("metadata") or "{}")
        self.artifacts[key] = Artifact(name, about["artifactTypeName"], digest, about["runName"], metadata=metadata)
        return {"createArtifact": {"artifact": self._artifact(key)}}

    def _artifact(self, key: str) -> dict[str, Any]:
        return {"id": key, "state": self.artifacts[key].state, "artifactSequence": {"latestArtifact": None}}

    def _manifest(self, key: str, variables: dict) -> dict[str, Any]:
        file = {"id": f"file-{key}"}
        if variables["includeUpload"]:
            file |= {"uploadUrl": f"{self.url}/manifest/{key}/manifest", "uploadHeaders": []}
        return {"artifactManifest": {"id": f"manifest-{key}", "file": file}}

    def _on_CreateArtifactManifest(self, variables: dict) -> dict:
        return {"createArtifactManifest": self._manifest(variables["artifactID"], variables)}

    def _on_UpdateArtifactManifest(self, variables: dict) -> dict:
        return {"updateArtifactManifest": self._manifest(variables["artifactManifestID"].partition("-")[2], variables)}

    def _on_CreateArtifactFiles(self, variables: dict) -> dict:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            key, name = file["artifactID"], file["name"]
            node = {"storagePath": name, "uploadUrl": f"{self.url}/artifact/{key}/{name}", "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": key}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, variables: dict) -> dict:
        artifact = self.artifacts[variables["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact.digest}}}

    def _on_ArtifactByID(self, variables: dict) -> dict:
        artifact = self.artifacts[variables["id"]]
        project = {
            "__typename": "Project",
            "id": "p",
            "internalId": "p",
            "name": "kd",
            "entity": {"__typename": "Entity", "name": ENTITY},
        }
        sequence = {"__typename": "ArtifactSequence", "id": "s", "name": artifact.name, "project": project}
        about = {"__typename": "Artifact", "id": variables["id"], "artifactSequence": sequence, "versionIndex": 0}
        about |= {"artifactType": {"name": artifact.type}, "description": None, "metadata": None, "tags": []}
        about |= {"ttlDurationSeconds": -2, "ttlIsInherited": True, "historyStep": None, "state": artifact.state}
        about |= {"size": sum(map(len, artifact.files.values())), "fileCount": len(artifact.files)}
        about |= {"digest": artifact.digest, "digestAlgorithm": None, "commitHash": "c"}
        return {"artifact": about | {"createdAt": DAY, "updatedAt": None, "aliases": []}}

    # for `wandb sweep` and `wandb agent`

    def _on_UpsertSweep(self, variables: dict) -> dict:
        name = f"sweep{len(self.sweeps) + 1}"
        self.sweeps[name] = variables["config"]
        project = {"id": "p", "name": variables["projectName"], "entity": {"id": "e", "name": ENTITY}}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def _on_SweepWithRuns(self, variables: dict) -> dict:
        return {"project": {"sweep": {"id": "s", "config": self.sweeps[variables["sweep"]], "runs": {"edges": []}}}}

    def _on_CreateAgent(self, variables: dict) -> dict:
        return {"createAgent": {"agent": {"id": variables["sweep"]}}}

    def _on_Heartbeat(self, variables: dict) -> dict:
        """Hand out one run at a time, as ``count`` of `wandb agent` has it: the server makes it before it starts."""
        commands = []
        if not json.loads(variables["runState"]):
            commands = [{"type": "exit"}]
        if commands and self.waiting:
            values = self.waiting.pop(0)
            name, config = f"agents{len(self.runs)}", {key: {"value": value} for key, value in values.items()}
            self.runs[name] = Run(name, "", sweep=variables["id"], stored_config=json.dumps(config))
            command = re.search(r"^program: *(.*)$", self.sweeps[variables["id"]], re.MULTILINE)
            commands = [{"type": "run", "run_id": name, "program": command and command[1], "args": config}]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    # for kd.dashboard

    def _on_GetDefaultEntity(self, _: dict) -> dict:
        return {"viewer": {"id": "1", "entity": ENTITY}}

    def _on_UpsertView2(self, variables: dict) -> dict:
        self.views.append(variables)
        view = {"id": f"view{len(self.views)}", "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": True}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/switch":
            for name, (value,) in parse_qs(parts.query, keep_blank_values=True).items():
                kind = type(getattr(self.server_of, name))
                setattr(self.server_of, name, value if kind is str else kind(int(value)))
            return self._answer(200, {})
        if parts.path == "/rows":
            return self._answer(200, {name: len(run.history) for name, run in self.server_of.runs.items()})
        self._answer(404, {"error": "there is nothing to fetch here"})

    def do_POST(self) -> None:
        self._serve(self.server_of.post)

    def do_PUT(self) -> None:
        self._serve(self.server_of.put)

    def _serve(self, act: Any) -> None:
        body = self._body()  # also when it is not wanted: the connection is used again
        self.server_of.heard.append(body)
        if self.server_of.stalled or self.server_of.delay:
            self.server_of._released.wait(60 if self.server_of.stalled else self.server_of.delay)
        if self.server_of.strange:
            return self._answer(401, {"errors": [{"message": "user is not logged in"}]})
        if self.server_of.down:
            return self._answer(503, {"error": "down"})
        self._answer(200, act(unquote(urlsplit(self.path).path), body))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
