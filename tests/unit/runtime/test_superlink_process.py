"""The SuperLink's process takes requests whole, and Flower starts its server where that is seen to."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from fednano.flower.compat import superlink_process as compat
from fednano.runtime.deployment.superlink_process import Gathered

Event = MutableMapping[str, Any]
LEFT = {"type": "http.disconnect"}


def request(body: bytes, more: bool) -> Event:
    return {"type": "http.request", "body": body, "more_body": more}


def heard(kind: str, *events: Event) -> list[Event]:
    """What the application receives of a connection's events."""
    coming, received = list(events), []

    async def receive() -> Event:
        return coming.pop(0)

    async def app(scope: Event, receive: Any, send: Any) -> None:
        assert scope["type"] == kind
        assert kind != "http" or coming == [LEFT], "called before all had come"
        while True:
            received.append(await receive())
            if received[-1] == LEFT:
                return

    async def send(event: Event) -> None: ...

    asyncio.run(Gathered(app)({"type": kind}, receive, send))
    return received


def test_a_body_comes_in_one_piece() -> None:
    parts = [request(b"a" * 70_000, True), {"type": "http.request", "more_body": True}, request(b"b", False)]
    assert heard("http", *parts, LEFT) == [request(b"a" * 70_000 + b"b", False), LEFT]
    assert heard("http", {"type": "http.request"}, LEFT) == [request(b"", False), LEFT]


def test_who_leaves_in_the_middle_of_a_body_has_asked_for_nothing() -> None:
    assert heard("http", request(b"a", True), LEFT, LEFT) == [LEFT]


def test_what_is_no_request_passes_as_it_comes() -> None:
    parts = request(b"a", True), request(b"b", False), LEFT
    assert heard("lifespan", *parts) == [*parts]


def test_the_superlink_serves_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[object, dict[str, object]]] = []
    server = compat.COMMAND.uvicorn
    monkeypatch.setattr(server, "run", lambda app, **settings: served.append((app, settings)))
    compat.serve_through(Gathered)
    server.run(app=object(), port=1)
    ((app, settings),) = served
    assert isinstance(app, Gathered) and settings == {"port": 1}
