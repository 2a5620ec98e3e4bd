"""Where a download may lead, and how much it may bring, from a server that means harm."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from support.serving import listening

from fednano.data import download
from fednano.data.download import Downloader
from fednano.runtime.deployment.security import Certificates, make_certificates

BODY = b"every byte of it"


@dataclass
class Server:
    """Answers each path with a status, headers and a body; remembers the paths."""

    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def redirects(self, path: str, to: str, **headers: str) -> None:
        self.answers[path] = (302, {"Location": to, "Content-Length": "0", **_spelt(headers)}, b"")

    def sends(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, _spelt(headers), body)


def _spelt(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def serving(certificates: Certificates | None) -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            served.asked.append(self.path)
            status, headers, body = served.answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    served.url = f"{'https' if certificates else 'http'}://127.0.0.1:{server.server_address[1]}"
    with listening(server):
        yield served


@pytest.fixture
def plain() -> Iterator[Server]:
    yield from serving(None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[Server]:
    yield from serving(certificates)


Fetch = Callable[[str], bytes]


@pytest.fixture
def fetch(tmp_path: Path, certificates: Certificates) -> Iterator[Fetch]:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    with httpx.Client(verify=context, timeout=10.0) as client:
        downloader = Downloader(
            client=client, retries=1, hint="check data.base_url", stop=threading.Event(), wait=lambda seconds: None
        )

        def go(url: str) -> bytes:
            target = tmp_path / "file"
            try:
                downloader.fetch(url, target, lambda path: None)
                return target.read_bytes()
            except ValueError as error:
                assert "\n" not in str(error) and str(error).endswith("; check data.base_url")
                assert str(error).startswith(url) and not target.exists()
                raise

        yield go


def test_redirects_never_leave_https(secure: Server, plain: Server, fetch: Fetch) -> None:
    plain.sends("/file", BODY, Content_Length=str(len(BODY)))
    secure.sends("/file", BODY, Content_Length=str(len(BODY)))
    secure.redirects("/down", f"{plain.url}/file")
    secure.redirects("/twice", "/down")
    secure.redirects("/stays", "/file")
    secure.redirects("/disk", "file:///etc/passwd")
    for path in ("/down", "/twice"):
        with pytest.raises(ValueError, match=f"must stay on https, but was redirected to {plain.url}/file"):
            fetch(f"{secure.url}{path}")
    with pytest.raises(ValueError, match="must stay on https, but was redirected to file:"):
        fetch(f"{secure.url}/disk")
    assert plain.asked == []
    assert fetch(f"{secure.url}/stays") == BODY
    plain.redirects("/up", f"{secure.url}/file")
    assert fetch(f"{plain.url}/up") == BODY


def test_redirects_end(plain: Server, fetch: Fetch) -> None:
    plain.redirects("/round", "/round")
    with pytest.raises(ValueError, match="redirected more than 10 times"):
        fetch(f"{plain.url}/round")
    plain.redirects("/broken", "http://[")
    with pytest.raises(ValueError, match="could not be fetched in 2 attempts"):
        fetch(f"{plain.url}/broken")


def test_no_more_comes_than_was_announced(plain: Server, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1000)
    plain.sends("/endless", b"x" * 100_000)
    with pytest.raises(ValueError, match="the server sent more than 1000 bytes"):
        fetch(f"{plain.url}/endless")
    plain.sends("/huge", b"x", Content_Length=str(10**12))
    with pytest.raises(ValueError, match="announces 1000000000000 bytes, but may have 1000 at most"):
        fetch(f"{plain.url}/huge")
    plain.redirects("/linked", "/endless", X_Linked_Size="16")
    with pytest.raises(ValueError, match="the server sent more than 16 bytes"):
        fetch(f"{plain.url}/linked")
    plain.sends("/other", BODY * 2, Content_Length=str(2 * len(BODY)))
    plain.redirects("/differs", "/other", X_Linked_Size="16")
    with pytest.raises(ValueError, match="the server announces 32 bytes and 16 bytes"):
        fetch(f"{plain.url}/differs")
    plain.sends("/good", BODY, Content_Length="16")
    plain.redirects("/agrees", "/good", X_Linked_Size="16", X_Linked_ETag=f'"{hashlib.sha256(BODY).hexdigest()}"')
    assert fetch(f"{plain.url}/agrees") == BODY


def test_headers_that_make_no_sense_are_an_error_of_one_line(plain: Server, fetch: Fetch) -> None:
    plain.sends("/partial", BODY, status=206, Content_Length="16")
    with pytest.raises(ValueError, match="could not be fetched in 2 attempts"):
        fetch(f"{plain.url}/partial")
    plain.redirects("/digest", "/good", X_Linked_ETag=f'"{"0" * 64}"')
    plain.sends("/good", BODY, Content_Length="16")
    with pytest.raises(ValueError, match=f"its SHA-256 is {hashlib.sha256(BODY).hexdigest()}, but 0000"):
        fetch(f"{plain.url}/digest")
    with pytest.raises(ValueError, match="must be a URL"):
        fetch("https://a:b/c")
