"""A stand-in for W&B's server on this machine: it accepts runs until it is closed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.serving import listening

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
BUCKET = {"id": "b", "name": "n", "displayName": "d", "sweepName": None, "historyLineCount": 0, "project": PROJECT}
DATA = {
    "viewer": {"id": "u", "entity": "e", "username": "e", "flags": "{}", "teams": {"edges": []}},
    "upsertBucket": {"bucket": BUCKET, "inserted": True},
    "serverInfo": {"features": []},
    "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []},
}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request per connection, so that a closed server answers nothing more

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"data": DATA} if self.path == "/graphql" else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def wandb_server() -> Iterator[str]:
    """The URL of a server, which is gone after the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    with listening(server):
        yield f"http://127.0.0.1:{server.server_port}"
