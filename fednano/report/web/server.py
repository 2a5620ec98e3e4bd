"""The server of the watched pages: this machine only, reading only, and nothing but its own pages.

A browser may be made to send requests here by any site that its user visits. So a request must name this machine as
its host, which a site of another name that resolves to it (DNS rebinding) cannot do, and answers may not be read,
framed or run by other sites.
"""

import json
import socketserver
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fednano.config.errors import one_line
from fednano.report.web.templating import static
from fednano.report.web.watcher import View, Watcher, page

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")  # with any port: it may be forwarded from another one
IDLE_S = 60.0
STATIC = {"/style.css": "text/css", "/watch.css": "text/css", "/watch.js": "text/javascript"}
# The width of a drawing that scrolls is a style of its own.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report carries its own style and script. As a page of no origin, it can ask this server for nothing.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class WatchServer(ThreadingHTTPServer):
    """Serves a watcher's pages on a port of this machine.

    Args:
        port: 0: any free one.

    Raises OSError if the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, watcher: Watcher, port: int = 0) -> None:
        self.watcher = watcher
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask the network for the name of this machine
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is that a browser has gone."""
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, ConnectionError | TimeoutError):
            print(f"fednano: a page could not be shown: {one_line(error)}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower().partition(":")[0] not in HOSTS:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"the host must be 127.0.0.1 or localhost\n", "text/plain")
            return
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that is not read would be taken for the next request
        asked = urlsplit(self.path)
        seen = parse_qs(asked.query).get("seen", [""])[0]
        self._answer(asked.path, seen)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that is not well formed, or of another method than GET."""
        self.close_connection = True  # whatever it brought is not read
        other = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if other else HTTPStatus(code)
        self._send(status, f"{status.phrase}\n".encode(), "text/plain", **({"Allow": "GET"} if other else {}))

    def _answer(self, path: str, seen: str) -> None:
        watcher = self.server.watcher
        match path.split("/")[1:]:
            case [""]:
                runs = watcher.runs()
                if len(runs) == 1:
                    self._send(HTTPStatus.TEMPORARY_REDIRECT, b"", "text/plain", Location=f"/run/{runs[0].id}")
                else:
                    self._page(watcher.overview, "/data")
            case ["runs"]:
                self._page(watcher.overview, "/data")
            case ["data"]:
                self._data(watcher.overview(), seen)
            case ["run", id_]:
                self._page(lambda: watcher.run(id_), f"/run/{id_}/data")
            case ["run", id_, "data"]:
                self._data(watcher.run(id_), seen)
            case ["run", id_, "report"] if (found := watcher.report(id_)) is not None:
                self._send(HTTPStatus.OK, found, "text/html", REPORT_POLICY)
            case _ if path in STATIC:
                self._send(HTTPStatus.OK, static(path[1:]), STATIC[path])
            case _:
                self._absent()

    def _page(self, look: Callable[[], View | None], data: str) -> None:
        view = look()
        if view is None:
            self._absent()
        else:
            self._send(HTTPStatus.OK, page(view, data).encode(), "text/html")

    def _data(self, view: View | None, seen: str) -> None:
        if view is None:
            self._absent()
        elif view.version == seen:
            self._send(HTTPStatus.NO_CONTENT, b"", "application/json")
        else:
            told = {"version": view.version, "title": view.title, "html": view.html}
            self._send(HTTPStatus.OK, json.dumps(told).encode(), "application/json")

    def _absent(self) -> None:
        self._send(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str = POLICY, **more: str) -> None:
        self.send_response(status)
        for key, value in {**HEADERS, "Content-Security-Policy": policy, **more}.items():
            self.send_header(key, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "fednano"

    def log_message(self, format: str, *args: Any) -> None:
        pass
