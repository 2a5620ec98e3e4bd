"""Who is to be up now: by a profile in real time, by a URL, by a key of the coordination store."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any

import httpx
import pytest

from fednano.runtime.deployment.nodes.polling import Poller, Polling, SignalError, fetch, figure, switch
from fednano.runtime.deployment.nodes.signals import ProfileSignal, RedisSignal, UrlSignal, Watched
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership

SOON_S = 20.0
DOCUMENT = {"data": [{"value": 120.5}, {"value": True}], "text": "high", "nan": float("nan")}


@contextmanager
def server(answer: Callable[[str, dict[str, str]], tuple[int, bytes]]) -> Iterator[str]:
    """An HTTP server on a free port of this machine; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def watched(value: Callable[[str], str | None] = lambda key: None, speedup: float = 1.0) -> Watched:
    windows = {"a": [Window(0.0, 100.0, "drain"), Window(400.0, 500.0, "crash")], "b": [Window(100.0, 200.0, "drain")]}
    membership = Membership({client: Availability(iter(w)) for client, w in windows.items()})
    return Watched(("a", "b"), membership, speedup, value)


def test_a_profile_is_followed_in_real_time_that_is_sped_up() -> None:
    watch = ProfileSignal().watch(watched(speedup=10.0))
    assert [watch.wanted("a", t) for t in (0.0, 9.9, 10.0, 39.9, 40.0, 50.0)] == [True, True, False, False, True, False]
    assert [watch.wanted("b", t) for t in (9.9, 10.0)] == [False, True]
    assert watch.lost() == []


@pytest.mark.parametrize(("open_when", "up"), [("below", (True, False)), ("above", (False, True))])
def test_a_url_is_polled_for_each_site_with_the_token(
    open_when: str, up: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID_TOKEN", "s3cret")
    asked: SimpleQueue[tuple[str, str]] = SimpleQueue()
    twice = {"/DE": Flag(), "/FR": Flag()}
    seen: list[str] = []

    def answer(path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked.put((path, headers["Authorization"]))
        if path in seen:
            twice[path].set()  # the first answer has been taken up
        seen.append(path)
        return 200, json.dumps({"data": [{"value": {"/DE": 100, "/FR": 300}[path]}]}).encode()

    with server(answer) as address:
        signal = UrlSignal(
            url=f"{address}/{{site}}",
            sites=["DE", "FR"],
            path="data.0.value",
            open_when=open_when,  # type: ignore[arg-type]
            threshold=200.0,
            token_env="GRID_TOKEN",
            interval_s=0.01,
        )
        watch = signal.watch(watched())
        assert all(flag.wait(SOON_S) for flag in twice.values())
        assert (watch.wanted("a", 0.0), watch.wanted("b", 0.0)) == up
        watch.close()
    assert {asked.get(timeout=SOON_S) for _ in range(4)} == {("/DE", "Bearer s3cret"), ("/FR", "Bearer s3cret")}
    assert "s3cret" not in repr(signal)


def test_clients_with_the_same_url_share_its_answers() -> None:
    heard = Flag()
    asked: list[str] = []

    def answer(path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked.append(path)
        heard.set()
        return 200, b'{"x": 1}'

    with server(answer) as address:
        watch = UrlSignal(url=address, path="x", threshold=2.0, interval_s=1e4).watch(watched())
        assert heard.wait(SOON_S)
        watch.close()
    assert asked == ["/"]


class Told:
    """Answers as told, on a clock that stands still until it is moved."""

    def __init__(self, *answers: bool | str) -> None:
        self.answers = list(answers)
        self.t = 0.0

    def ask(self) -> bool:
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise SignalError(answer)
        return answer

    def poller(self, interval_s: float = 60.0, hold_s: float = 100.0) -> Poller:
        return Poller(self.ask, Polling(interval_s=interval_s, hold_s=hold_s), lambda: self.t)


def test_the_last_answer_is_held_then_the_client_is_down() -> None:
    told = Told(True, "gone", "gone", True)
    poller = told.poller()
    assert poller.answer() is None
    poller.poll()
    assert poller.answer() is True
    told.t = 100.0
    poller.poll()
    assert poller.answer() is True and not poller.overdue()
    told.t = 100.5
    poller.poll()
    assert poller.answer() is None and poller.overdue()
    assert poller.cause == "gone"
    poller.poll()
    assert poller.answer() is True and not poller.overdue()


def test_questions_that_fail_become_rarer_until_one_is_answered() -> None:
    poller = Told(True, *["gone"] * 6, False).poller()
    assert [poller.poll() for _ in range(8)] == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0, 60.0]


def test_what_was_never_heard_of_is_lost_once_the_hold_is_over() -> None:
    told = Told("gone")
    poller = told.poller()
    poller.poll()
    assert not poller.overdue()
    told.t = 101.0
    assert poller.overdue()


def test_a_watcher_that_died_says_so() -> None:
    poller = Poller(lambda: 1 / 0 > 0, Polling())
    poller.run(Flag())
    with pytest.raises(RuntimeError, match="polling of a signal has died"):
        poller.answer()


def test_who_is_lost_is_told_once() -> None:
    failed = Flag()

    def value(key: str) -> str | None:
        if key == "wanted:b":
            return "up"
        if calls.append(key) or len(calls) > 1:
            failed.set()
        raise SignalError("Redis is away")

    calls: list[str] = []
    watch = RedisSignal(interval_s=1e-3, hold_s=1e-6).watch(watched(value))
    assert failed.wait(SOON_S)
    watch.close()
    assert (("a",), "Redis is away") in watch.lost()
    assert ("a",) not in [clients for clients, _ in watch.lost()]


def test_a_key_of_the_store_says_who_is_to_be_up() -> None:
    keys = {"wanted:a": "up", "wanted:b": "0"}
    twice = {key: Flag() for key in keys}
    seen: list[str] = []

    def value(key: str) -> str | None:
        if key in seen:
            twice[key].set()
        seen.append(key)
        return keys[key]

    watch = RedisSignal(interval_s=1e-3).watch(watched(value))
    assert all(flag.wait(SOON_S) for flag in twice.values())
    assert (watch.wanted("a", 0.0), watch.wanted("b", 0.0)) == (True, False)
    watch.close()


def test_keys_are_read_strictly() -> None:
    assert [switch(v) for v in (None, "0", "False", "down", "1", "TRUE", "up")] == [False] * 4 + [True] * 3
    with pytest.raises(SignalError, match=r"a key must be one of 1, true, up, .*, got 'maybe'"):
        switch("maybe")


def test_a_figure_is_found_by_its_path() -> None:
    assert figure(DOCUMENT, "data.0.value") == 120.5
    assert figure([[3]], "0.0") == 3.0


@pytest.mark.parametrize("path", ["data.2.value", "data.x", "data.0.other", "text.0", "text", "data.1.value", "nan"])
def test_a_path_that_leads_to_no_number_is_said(path: str) -> None:
    with pytest.raises(SignalError, match=path.partition(".")[0]):
        figure(DOCUMENT, path)


@pytest.mark.parametrize(
    ("status", "body", "said"), [(503, b"", "answered 503"), (200, b"<html>", "JSON"), (200, b" " * (2 << 20), "more")]
)
def test_answers_that_say_nothing_name_the_host_alone(status: int, body: bytes, said: str) -> None:
    with server(lambda path, headers: (status, body)) as address, httpx.Client() as http:
        with pytest.raises(SignalError, match=said) as caught:
            fetch(http, f"{address}/?key=s3cret")
        assert "s3cret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


def test_a_server_that_is_away_is_said() -> None:
    with server(lambda path, headers: (200, b"")) as address:
        pass
    with httpx.Client() as http, pytest.raises(SignalError, match=r"did not answer \(ConnectError"):
        fetch(http, address)


GOOD: dict[str, Any] = {"url": "https://example.org/{client}", "path": "a.0", "threshold": 1.0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": "ftp://example.org"}, "must be an http or https address"),
        ({"url": "https://example.org/{zone}"}, "unknown placeholder {zone}"),
        ({"url": "https://example.org/{site}"}, "give both or neither"),
        ({"sites": ["DE"]}, "give both or neither"),
        ({"url": "https://example.org/{"}, "write {{ and }} for literal braces"),
        ({"path": "a..b"}, "path must be keys and indices, got a..b"),
        ({"open_when": "near"}, "must be below or above, got near"),
        ({"threshold": float("nan")}, "use a number"),
        ({"token_env": "no-name"}, "use letters and _"),
        ({"token_env": "TOKEN", "url": "http://example.org"}, "must use https or loopback with a token"),
        ({"interval_s": 0.0}, "interval_s must be finite and > 0 s, got 0.0"),
        ({"hold_s": float("inf")}, "hold_s must be finite and > 0 s, got inf"),
    ],
)
def test_settings_of_a_url_are_checked_when_composed(changed: dict[str, Any], said: str) -> None:
    UrlSignal(**GOOD)
    with pytest.raises(ValueError, match=said):
        UrlSignal(**GOOD | changed)


def test_a_token_that_is_not_set_is_said_without_asking() -> None:
    with pytest.raises(ValueError, match="token_env=NO_SUCH_TOKEN_HERE is not set"):
        UrlSignal(**GOOD, token_env="NO_SUCH_TOKEN_HERE").check()


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"runtime.signal.key must be a key, got \{zone\}"):
        RedisSignal(key="{zone}")
