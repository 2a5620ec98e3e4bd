"""A stand-in for W&B's server on this machine: it accepts runs until it is closed, and keeps what they log."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.serving import listening

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
DATA = {
    "viewer": {"id": "u", "entity": "e", "username": "e", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"features": []},
    "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []},
}


@dataclass
class Served:
    """What a server has been told: `history` by run id, each row at its place, and the operations asked for."""

    url: str = ""
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)

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
        name = str(body.get("variables", {}).get("name") or "")
        known = self.bucket(name) if name in self.history else None
        if self.operations[-1] == "UpsertBucket":
            self.history.setdefault(name, {})
        upserted = {"upsertBucket": {"bucket": self.bucket(name), "inserted": known is None}}
        return {**DATA, **upserted, "model": {"id": "p", "name": "p", "entity": {"name": "e"}, "bucket": known}}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        chunk = (body.get("files") or {}).get("wandb-history.jsonl")
        for k, line in enumerate(chunk["content"] if chunk else []):
            self.history.setdefault(run, {})[chunk["offset"] + k] = json.loads(line)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request per connection, so that a closed server answers nothing more
    served: Served

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            answer = {"data": self.served.answer(json.loads(content))}
        elif streamed := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.served.stream(streamed[1], json.loads(content))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def wandb_server(served: Served | None = None) -> Iterator[str]:
    """The URL of a server, which is gone after the block; `served` keeps what it is told."""
    told = served or Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Told", (_Answers,), {"served": told}))
    with listening(server):
        told.url = f"http://127.0.0.1:{server.server_port}"
        yield told.url
