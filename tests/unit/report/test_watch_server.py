"""The server of watched pages: what it shows, and what it refuses."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.event_logs import CLIENTS, centralized_run, volatile_run
from support.pages import Page, tiles, write_run

from fednano.core.event_log import to_line
from fednano.core.events import RunStarted
from fednano.report.web import server as server_module
from fednano.report.web import watcher as watcher_module
from fednano.report.web.html import write_report
from fednano.report.web.server import WatchServer
from fednano.report.web.watcher import Watcher
from fednano.watch import require_runs, serving


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """New runs are looked for each time, and pages drawn anew whenever they differ."""
    monkeypatch.setattr(watcher_module, "SEARCH_S", 0.0)
    monkeypatch.setattr(watcher_module, "REST", 0.0)


class Visitor:
    """Asks a server for pages."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """(status, headers, text) of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for key, value in headers.items():
            connection.putheader(key.replace("_", "-"), value)
        connection.endheaders(body)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, dict(reply.getheaders()), text


@contextmanager
def served(*places: Path) -> Iterator[Visitor]:
    """A visitor of a server that watches these folders."""
    server = WatchServer(Watcher(places))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Visitor(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def links(get: Visitor) -> list[str]:
    page = Page(get("/runs")[2])
    return [str(attrs["href"]) for tag, attrs, _ in page.elements if tag == "a" and "run" in (attrs.get("class") or "")]


def test_a_run_is_shown_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    events = volatile_run(rounds=8)
    log, run = tmp_path / "events.jsonl", tmp_path
    lines = [to_line(event) + b"\n" for event in events]
    (run / "config.yaml").write_text("name: quick<start\n")
    log.write_bytes(b"".join(lines[:60]))
    with served(run) as get:
        status, headers, _ = get("/")
        assert status == HTTPStatus.TEMPORARY_REDIRECT
        link = headers["Location"]
        page = Page(get(link)[2])
        assert page.texts("title")[0].startswith("▶ round ")
        assert page.texts("h1") == ["quick<start ▶ running"]
        before = tiles(page)
        assert before["Clients up"][0].endswith(" of 4")
        assert "Time left" in before
        assert "now" in page.texts("th")
        assert page.texts("a", class_="report") == []
        write_run(run, events)
        write_report(run)
        page = Page(get(link)[2])
        assert page.texts("title")[0].startswith("✓ round 8/8 ")
        after = tiles(page)
        assert after["Goodput"][0] == "73.1 %"  # the summary's
        assert "Time left" not in after
        assert "now" not in page.texts("th")
        assert before["Tokens trained"] != after["Tokens trained"]
        assert page.texts("a", class_="report") == ["open the report"]
        status, headers, text = get(f"{link}/report")
        assert (status, text) == (HTTPStatus.OK, (run / "report.html").read_text())
        assert "sandbox allow-scripts" in headers["Content-Security-Policy"]
        assert "allow-same-origin" not in headers["Content-Security-Policy"]


def test_the_page_maps_who_did_what_in_each_round(tmp_path: Path) -> None:
    events = volatile_run(rounds=10)
    with served(write_run(tmp_path, events)) as get:
        page = Page(get(links(get)[0])[2])
    rows = [attrs["data-client"] for _, attrs, _ in page.elements if attrs.get("class") == "row"]
    assert rows == ["global model", *CLIENTS]
    cells = [attrs["class"] for tag, attrs, _ in page.elements if tag == "rect" and "cell" in (attrs["class"] or "")]
    assert cells.count("cell work done") == 9
    assert cells.count("cell work skipped") == 1
    assert {"cell work full", "cell work drained", "cell work lost", "cell work refused"} <= set(cells)
    lanes = [attrs["data-client"] for _, attrs, _ in page.elements if attrs.get("class") == "lane"]
    assert lanes == list(CLIENTS)


def test_only_what_is_new_is_sent(tmp_path: Path) -> None:
    events = volatile_run(rounds=4)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"".join(to_line(event) + b"\n" for event in events[:20]))
    with served(tmp_path) as get:
        data = f"{links(get)[0]}/data"
        for path in (data, "/data"):
            first = json.loads(get(path)[2])
            assert set(first) == {"version", "title", "html"}
            assert get(f"{path}?seen={first['version']}")[::2] == (HTTPStatus.NO_CONTENT, "")
            log.write_bytes(b"".join(to_line(event) + b"\n" for event in events))
            second = json.loads(get(f"{path}?seen={first['version']}")[2])
            assert second["version"] != first["version"]
            assert second["html"] != first["html"]
            log.write_bytes(b"".join(to_line(event) + b"\n" for event in events[:20]))


def test_runs_that_appear_are_picked_up_and_those_that_go_are_let_go(tmp_path: Path) -> None:
    write_run(tmp_path / "a/1", volatile_run(rounds=2))
    with served(tmp_path) as get:
        [first] = links(get)
        write_run(tmp_path / "b/1", centralized_run(3), config="name: another\n")
        found = links(get)
        assert len(found) == 2
        assert first in found
        page = Page(get("/")[2])
        assert sorted(page.texts("b")) == ["another", "quickstart"]
        for path in (tmp_path / "a/1").iterdir():
            path.unlink()
        assert first not in links(get)
        assert get(first)[0] == get(f"{first}/data")[0] == HTTPStatus.NOT_FOUND


def test_runs_of_one_experiment_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    for name, strategy, seed in (("quickstart", "diloco", 0), ("quickstart", "diloco", 1), ("quickstart", "fedavg", 0)):
        config = f"name: {name}\nseed: {seed}\nrounds: 2\nstrategy:\n  name: {strategy}\n"
        write_run(tmp_path / f"{strategy}{seed}", volatile_run(rounds=2), config)
    other = write_run(tmp_path / "other", volatile_run(rounds=2), "name: other\nseed: 5\n")
    with served(tmp_path) as get:
        assert sorted(Page(get("/runs")[2]).texts("span", class_="apart")) == [
            "dilocoseed=0", "dilocoseed=1", "fedavgseed=0",
        ]  # fmt: skip
        (other / "config.yaml").write_text("name: quickstart\nseed: 0\nrounds: 9\nstrategy:\n  name: diloco\n")
        assert "dilocoseed=0rounds=9" in Page(get("/runs")[2]).texts("span", class_="apart")


def test_the_newest_of_very_many_runs_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "MAX_RUNS", 2)
    for k in range(3):
        write_run(tmp_path / str(k), volatile_run(rounds=2))
    with served(tmp_path) as get:
        assert len(links(get)) == 2
        assert "Not shown: 1 older run." in get("/runs")[2]


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    events = [
        replace(event, clients=(evil,), strategy=evil, volatility=evil) if isinstance(event, RunStarted) else event
        for event in volatile_run(rounds=5, clients=(evil, "b"))
    ]
    write_run(tmp_path, events, config=f"name: {evil}\n", error=evil, status="failed")
    with served(tmp_path, tmp_path / "absent") as get:
        for path in ("/runs", *links(get)):
            status, headers, text = get(path)
            assert status == HTTPStatus.OK
            assert "<script>alert" not in text
            page = Page(text)
            assert [attrs for tag, attrs, _ in page.elements if tag == "script"] == [
                {"src": "/watch.js", "defer": None}
            ]
            assert not [name for _, attrs, _ in page.elements for name in attrs if name.startswith("on")]
            assert "unsafe-inline" not in headers["Content-Security-Policy"].split("style-src-attr")[0]
        assert any(evil in text for text in Page(text).texts("p", class_="notice"))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:1", "", "[::1]", "0.0.0.0"],
)
def test_a_request_for_another_host_is_refused(tmp_path: Path, host: str) -> None:
    with served(write_run(tmp_path, volatile_run(rounds=1))) as get:
        for path in ("/", "/data", "/style.css", links(get)[0]):
            status, _, text = get(path, Host=host)
            assert status == HTTPStatus.MISDIRECTED_REQUEST
            assert "quickstart" not in text
        for own in ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:9"):  # through a port that is forwarded
            assert get("/runs", Host=own)[0] == HTTPStatus.OK


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"])
def test_only_get_is_allowed(tmp_path: Path, method: str) -> None:
    with served(write_run(tmp_path, volatile_run(rounds=1))) as get:
        for path in ("/runs", "/data", "/absent"):
            status, headers, text = get(path, method, b"x", Content_Length="1")
            assert (status, headers["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "GET")
            assert "quickstart" not in text


def test_nothing_but_its_own_pages_is_served(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    run = write_run(tmp_path / "run", volatile_run(rounds=1))
    (run / "secret").write_text("secret")
    with served(run) as get:
        link = links(get)[0]
        for path in (
            *(
                "/../secret",
                "/..%2fsecret",
                "/%2e%2e/secret",
                "//etc/passwd",
                "/etc/passwd",
                "/secret",
                "/report.html.j2",
            ),
            *(
                f"{link}/secret",
                f"{link}/../secret",
                f"{link}/..%2fsecret",
                f"{link}/events.jsonl",
                f"{link}/config.yaml",
            ),
            *(f"{link}/report/../../secret", f"{link}/report", f"{link}/", "/run/", "/run", "/run/..", "/run/../data"),
            *(f"/run/{tmp_path}", "/static/../server.py", "/watch.js/../style.css", "http://127.0.0.1/secret", "/%00"),
        ):
            status, _, text = get(path)
            assert (path, status) == (path, HTTPStatus.NOT_FOUND)
            assert "secret" not in text
        (run / "report.html").symlink_to(tmp_path / "secret")
        assert get(f"{link}/report")[0] == HTTPStatus.NOT_FOUND
        for path in ("/style.css", "/watch.css", "/watch.js"):
            assert get(path)[0] == HTTPStatus.OK


def test_each_answer_forbids_other_sites(tmp_path: Path) -> None:
    with served(write_run(tmp_path, volatile_run(rounds=1))) as get:
        for path in ("/", "/runs", "/data", "/watch.js", "/absent", links(get)[0]):
            headers = get(path)[1]
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in headers
            assert headers["Server"] == "fednano"


def test_a_malformed_request_is_refused_and_the_next_is_answered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(write_run(tmp_path, volatile_run(rounds=1))) as get:
        for said in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"x" * 70_000 + b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", get.port)) as stranger:
                stranger.sendall(said)
                assert b"quickstart" not in stranger.recv(1 << 16)
        with socket.create_connection(("127.0.0.1", get.port)) as stranger:
            stranger.sendall(b"GET /runs HTTP/1.1\r\nHost: localhost\r\n\r\n")  # and goes without reading
        assert get("/runs")[0] == HTTPStatus.OK
    assert capfd.readouterr().err == ""


def test_a_page_that_cannot_be_drawn_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\npage")

    with served(write_run(tmp_path, volatile_run(rounds=1))) as get:
        monkeypatch.setattr(server_module, "page", broken)
        with pytest.raises(http.client.HTTPException):
            get("/runs")
        monkeypatch.undo()
        assert get("/runs")[0] == HTTPStatus.OK
    assert capfd.readouterr().err == "fednano: a page could not be shown: no page\n"


def test_it_listens_on_this_machine_alone(tmp_path: Path) -> None:
    with WatchServer(Watcher([tmp_path])) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(ValueError, match=rf"--port must be free, got {server.server_port} \(.*\); use another one"):
            serving([tmp_path], server.server_port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="--port must be from 0 to 65535"):
        serving([], port)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"RUN_DIR must be or hold the folder of a run, got .*; name runs"):
        require_runs(tmp_path)
    with pytest.raises(ValueError, match="which does not exist"):
        require_runs(tmp_path / "absent")
    write_run(tmp_path / "a/b", volatile_run(rounds=1))
    require_runs(tmp_path)
