"""Flower's SuperLink, faster with large messages: python -m fednano.runtime.deployment.superlink_process ARGUMENTS.

Between two rounds, all bytes of a run pass through the single thread of this process.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fednano.core.output import tolerate_output
from fednano.flower.compat.superlink_process import run_superlink, serve_through
from fednano.process.memory import keep_freed_memory, share_heaps

AsgiEvent = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiEvent]]
Send = Callable[[AsgiEvent], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Gathered:
    """An ASGI application that is called with the whole body of each request at once.

    Flower's application reads the whole body first anyway, but through layers that start tasks for every 64 KB.

    Args:
        app: the application to call.
    """

    def __init__(self, app: AsgiApp) -> None:
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

        async def rest() -> AsgiEvent:
            return first.pop() if first else await receive()

        await self._app(scope, rest, send)


if __name__ == "__main__":
    tolerate_output()
    keep_freed_memory()
    share_heaps()  # it starts threads for every message
    serve_through(Gathered)
    run_superlink()
