"""Flower's SuperLink, quicker with large messages: python -m fednano.runtime.deployment.superlink_process ARGUMENTS.

All bytes of a run pass through the one thread of this process, between two rounds.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fednano.flower.compat.superlink_process import run_superlink, serve_through
from fednano.process.memory import keep_freed_memory, share_heaps

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Gathered:
    """An ASGI application whose requests have come whole before it is called.

    Flower's asks for a body anyway before it does anything, through layers each of which starts tasks for every 64 KB.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        while (event := await receive())["type"] == "http.request":
            parts.append(event.get("body", b""))
            if not event.get("more_body", False):
                event = {"type": "http.request", "body": b"".join(parts), "more_body": False}
                break
        first = [event]

        async def rest() -> Event:
            return first.pop() if first else await receive()

        await self._app(scope, rest, send)


if __name__ == "__main__":
    keep_freed_memory()
    share_heaps()  # its threads come and go with the messages
    serve_through(Gathered)
    run_superlink()
