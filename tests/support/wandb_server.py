"""A stand-in for W&B's server on this machine: it keeps what runs log, and gives agents the runs of a sweep."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.serving import listening

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
DATA = {
    "viewer": {"id": "u", "entity": "e", "username": "e", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"features": []},
    "project": None,
    "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []},
}


@dataclass
class Served:
    """What a server has been told: `history` by run id, each row at its place, operations, and names of artifacts."""

    url: str = ""
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)

    def bucket(self, name: str) -> dict[str, Any]:
        lines = self.history.get(name, {})
        tail = [json.dumps(lines[max(lines)])] if lines else []
        return {
            "id": f"id-{name}",
            "name": name,
            "displayName": "d",
            "sweepName": None,
            "project": PROJECT,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "config": "{}",
            "tags": [],
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "summaryMetrics": "{}",
            "wandbConfig": '{"t": 1}',
        }

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", body.get("query", ""))
        self.operations.append(found[1] if found else "")
        if self.operations[-1] == "CreateArtifact":
            return {"createArtifact": {"artifact": self._artifact(body["variables"]["input"])}}
        name = str(body.get("variables", {}).get("name") or "")
        known = self.bucket(name) if name in self.history else None
        if self.operations[-1] == "UpsertBucket":
            self.history.setdefault(name, {})
        upserted = {"upsertBucket": {"bucket": self.bucket(name), "inserted": known is None}}
        return {**DATA, **upserted, "model": {"id": "p", "name": "p", "entity": {"name": "e"}, "bucket": known}}

    def _artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """As if the server had its files already, so that none is uploaded."""
        self.artifacts.append(given["artifactCollectionName"])
        latest = {"id": "latest", "versionIndex": 0}
        return {"id": given["digest"], "state": "COMMITTED", "artifactSequence": {"id": "q", "latestArtifact": latest}}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        chunk = (body.get("files") or {}).get("wandb-history.jsonl")
        for k, line in enumerate(chunk["content"] if chunk else []):
            self.history.setdefault(run, {})[chunk["offset"] + k] = json.loads(line)


@dataclass
class SweepServer:
    """A sweep of the server's.

    Args:
        points: the parameters of the runs that agents get, in turn; after the last one the agent is told to end.
        url: of the server.
        config: the sweep's, as YAML, once it is made.
        asked: the names of the operations that were asked for.
        runs: what agents said about their runs.
    """

    points: Sequence[dict[str, Any]]
    url: str = ""
    config: str = ""
    asked: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    given: int = 0

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The data that answers an operation; None for one that has nothing to do with sweeps."""
        (name,) = re.findall(r"^\s*(?:query|mutation)\s+(\w+)", query) or [""]
        self.asked.append(name)
        match name:
            case "UpsertSweep":
                self.config = variables["config"]
                return {"upsertSweep": {"sweep": {"name": "s", "project": PROJECT}, "configValidationWarnings": []}}
            case "SweepWithRuns":
                held = {"id": "s", "name": "s", "state": "RUNNING", "config": self.config, "runs": {"edges": []}}
                return {"project": {"sweep": held}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "a"}}}
            case "Heartbeat":
                return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(self._commands(variables))}}
        return None

    def _commands(self, variables: dict[str, Any]) -> list[dict[str, Any]]:
        running = json.loads(variables["runState"])
        self.runs += [name for name in running if name not in self.runs]
        if running:
            return []
        if self.given == len(self.points):
            return [{"type": "exit"}]
        self.given += 1
        args = {key: {"value": value} for key, value in self.points[self.given - 1].items()}
        return [{"type": "run", "run_id": f"run{self.given}", "program": "fednano.run", "args": args}]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request per connection, so that a closed server answers nothing more
    served: Served
    sweep: SweepServer | None

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            answer = {"data": self._data(json.loads(content))}
        elif streamed := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.served.stream(streamed[1], json.loads(content))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _data(self, asked: dict[str, Any]) -> dict[str, Any]:
        own = self.sweep.answer(asked["query"], asked.get("variables") or {}) if self.sweep else None
        return self.served.answer(asked) if own is None else own


@contextmanager
def wandb_sweeps(sweep: SweepServer) -> Iterator[SweepServer]:
    """The sweep on a server, which is gone after the block."""
    with wandb_server(sweep=sweep) as sweep.url:
        yield sweep


@contextmanager
def wandb_server(served: Served | None = None, sweep: SweepServer | None = None) -> Iterator[str]:
    """The URL of a server, which is gone after the block; `served` keeps what it is told."""
    told = served or Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Told", (_Answers,), {"served": told, "sweep": sweep}))
    with listening(server):
        told.url = f"http://127.0.0.1:{server.server_port}"
        yield told.url
