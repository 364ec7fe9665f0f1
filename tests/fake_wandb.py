"""A server that W&B's client takes for W&B: it keeps the history, summary and artifacts of runs."""

import gzip
import json
import re
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "internalId": "p", "name": "segattn", "entity": {"id": "e", "name": "me"}}


class FakeWandb(ThreadingHTTPServer):
    """`runs` by id, each with state, history (its rows), summary, files and artifacts (by name)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.refuse = False  # runs and views
        self.refuse_artifacts = False
        self.fault: str | None = None  # "silent" or "error" from now on
        self.views: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        pass  # a client that hangs up, as W&B's does when it ends

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def fake_wandb(monkeypatch, folder):
    """The server, in the place of W&B, with a key."""
    import wandb

    server = FakeWandb()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_SILENT"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)
    wandb.teardown()  # W&B reads the environment when its service starts
    try:
        yield server
    finally:
        wandb.teardown()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWandb

    def log_message(self, *_: Any) -> None:
        pass

    def parse_request(self) -> bool:
        return super().parse_request() and not self._fails()

    def _fails(self) -> bool:
        fault = self.server.fault
        if fault == "error":
            self._body()
            self._answer({}, status=500)
        while self.server.fault == "silent":
            time.sleep(0.1)
        return fault is not None

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            self._graphql(json.loads(body))
        elif self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[-2], json.loads(body))
        else:  # telemetry
            self._answer({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _graphql(self, query: dict[str, Any]) -> None:
        name = re.search(r"(?:query|mutation) (\w+)", query["query"])
        assert name is not None
        variables, answer = defaultdict(lambda: None, query.get("variables") or {}), {}
        with self.server.lock:
            if hasattr(self, f"_on_{name[1]}"):
                answer = getattr(self, f"_on_{name[1]}")(variables)
        if answer is None:
            self._answer({"errors": [{"message": "refused"}]}, status=403)
        else:
            self._answer({"data": answer})

    def _stream(self, run: str, request: dict[str, Any]) -> None:
        with self.server.lock:
            for name, chunk in (request.get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    kept = self.server.runs[run]["history"]
                    kept[chunk["offset"] :] = map(json.loads, chunk["content"])
                if name == "wandb-summary.json":
                    self.server.runs[run]["summary"] = json.loads(chunk["content"][-1])
            if request.get("complete"):
                failed = bool(request.get("exitcode"))
                self.server.runs[run]["state"] = "failed" if failed else "finished"
        self._answer({})

    def _on_Viewer(self, _: Any) -> dict[str, Any]:
        who = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}"}
        return {"viewer": who | {"teams": {"edges": []}}}

    _on_GetDefaultEntity = _on_Viewer

    def _on_UpsertView2(self, variables: Any) -> dict[str, Any] | None:
        self.server.views.append(variables)
        if self.server.refuse:
            return None
        view = {"id": "v", "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": True}}

    def _on_RunResumeStatus(self, variables: Any) -> dict[str, Any]:
        run = self.server.runs.get(variables["name"])
        return {"model": PROJECT | {"bucket": run and _resume(variables["name"], run)}}

    def _on_Run(self, variables: Any) -> dict[str, Any]:
        name = variables["name"]
        run = self.server.runs.get(name)
        return {"project": PROJECT | {"run": run and _public(name, run)}}

    def _on_Runs(self, _: Any) -> dict[str, Any]:
        found = [{"node": _public(name, run)} for name, run in reversed(self.server.runs.items())]
        page = {"edges": found, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": PROJECT | {"runCount": len(found), "readOnly": False, "runs": page}}

    def _on_DeleteRun(self, variables: Any) -> dict[str, Any]:
        self.server.deleted.append(variables["id"])
        return {"deleteRun": {}}

    def _on_UpsertBucket(self, variables: Any) -> dict[str, Any] | None:
        if self.server.refuse:
            return None
        run, facts = variables["name"], dict(variables)
        new = {"history": [], "summary": {}, "files": [], "artifacts": {}, "facts": facts}
        self.server.runs.setdefault(run, new)["state"] = "running"
        bucket = {"id": run, "name": run, "displayName": variables["displayName"], "config": "{}"}
        bucket |= {"description": None, "sweepName": None, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket | {"project": PROJECT}, "inserted": True}}

    def _on_CreateRunFiles(self, variables: Any) -> dict[str, Any]:
        self.server.runs[variables["run"]]["files"] += variables["files"]
        files = [{"name": f, "uploadUrl": f"{self.server.url}/{f}"} for f in variables["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _on_ArtifactType(self, _: Any) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _on_CreateArtifact(self, variables: Any) -> dict[str, Any] | None:
        if self.server.refuse_artifacts:
            return None
        artifact = variables["input"]
        name, kind = artifact["artifactCollectionName"], artifact["artifactTypeName"]
        self.server.runs[artifact["runName"]]["artifacts"][name] = kind
        # "committed" says that the server has such content: no file follows
        told = {"id": f"{name} {kind}", "state": "COMMITTED"}
        return {
            "createArtifact": {"artifact": told | {"artifactSequence": {"latestArtifact": None}}}
        }

    def _on_ArtifactByID(self, variables: Any) -> dict[str, Any]:
        name, kind = variables["id"].split(" ")
        facts = dict.fromkeys(("description", "metadata", "ttlIsInherited", "historyStep"))
        facts |= dict.fromkeys(("createdAt", "updatedAt"), "2026-01-01T00:00:00Z")
        facts |= {"ttlDurationSeconds": -1, "size": 1, "fileCount": 1, "versionIndex": 0}
        facts |= {"ttlIsInherited": True, "digest": "d", "commitHash": "c", "state": "COMMITTED"}
        sequence = {"__typename": "ArtifactSequence", "name": name, "project": PROJECT}
        facts |= {"artifactSequence": sequence, "artifactType": {"name": kind}}
        facts |= {"id": variables["id"], "__typename": "Artifact", "tags": [], "aliases": []}
        return {"artifact": facts}


def _public(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """A run as the public API gives it."""
    facts = {"id": name, "name": name, "displayName": name, "projectId": "1", "tags": []}
    facts |= {"createdAt": "2026-01-01T00:00:00Z", "config": run["facts"]["config"] or "{}"}
    return facts | {"state": run["state"], "summaryMetrics": json.dumps(run["summary"])}


def _resume(name: str, run: dict[str, Any]) -> dict[str, Any]:
    tail = json.dumps([json.dumps(row) for row in run["history"][-1:]])
    counts = {"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run["history"])}
    texts = {"historyTail": tail, "eventsTail": "[]", "config": "{}", "wandbConfig": '{"t": {}}'}
    summary = json.dumps(run["summary"])
    return {"id": name, "name": name, "summaryMetrics": summary, "tags": []} | counts | texts
