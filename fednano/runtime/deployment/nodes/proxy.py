"""TCP proxy on 127.0.0.1 that gives a node's link to its servers the bandwidth, latency and jitter of `network`.

It forwards bytes as they are: TLS passes through untouched.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TypeVar

from fednano.core.clock import nap, wall
from fednano.volatility.network import Network

HOST = "127.0.0.1"
CHUNK = 16_384  # bytes forwarded at once
UNDER_WAY = 256  # maximum number of a connection's chunks in flight
QUIET_S = 0.05  # after a silence this long, a new transfer begins, with its own delay
ANSWER_S = 10.0  # timeout of commands to the proxy's thread, which answers at once

T = TypeVar("T")


@dataclass(kw_only=True)
class Lane:
    """One direction of a link, shared by all its connections. Pure arithmetic: times are passed in.

    Args:
        bit_s: bits per second.
        latency_s: seconds from when a byte leaves until it arrives.
        late_s: delay of the n-th transfer, in seconds.
        share: share of `bit_s` that is available now.
    """

    bit_s: float
    latency_s: float
    late_s: Callable[[int], float]
    share: float = 1.0
    _free: float = 0.0  # when the lane can take the next byte
    _transfers: int = 0

    def leaves(self, now: float, size: int) -> float:
        """When the last of `size` bytes that arrive at the lane at `now` has left it."""
        self._free = max(self._free, now) + 8 * size / (self.bit_s * self.share)
        return self._free

    def next_late_s(self) -> float:
        """The delay of the next transfer, in seconds."""
        self._transfers += 1
        return self.late_s(self._transfers - 1)


class Proxy:
    """A client's link to some servers. Its thread ends with `close`, or with the process.

    Args:
        targets: host and port of each server.
        network: the properties of links.
        index: the client's index.
        seed: seed of the draws of late transfers.
        now: a monotonic clock, in seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        *,
        targets: Sequence[tuple[str, int]],
        network: Network,
        index: int,
        seed: int,
        now: Callable[[], float] = wall,
        sleep: Callable[[float], Awaitable[None]] = nap,
    ) -> None:
        self._targets = list(targets)
        self._now = now
        self._sleep = sleep
        latency_s = network.up_s(0, index)
        self._up = Lane(
            bit_s=_bit_s(network.up_s, index),
            latency_s=latency_s,
            late_s=lambda n: network.late_s(index, seed, "up", n),
        )
        self._down = Lane(
            bit_s=_bit_s(network.down_s, index),
            latency_s=latency_s,
            late_s=lambda n: network.late_s(index, seed, "down", n),
        )
        self._listeners: list[socket.socket] = []
        self._carried: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name=f"fednano-link-{index}", daemon=True)
        self._thread.start()
        self.ports = [0] * len(self._targets)  # 127.0.0.1's, in the order of the targets
        self.mend()

    def cut(self) -> None:
        """Reset all connections and refuse new ones, until `mend`."""
        self._call(self._cut())

    def mend(self) -> None:
        """Accept connections, on the same ports as before. Raises OSError if another process took one meanwhile."""
        self._call(self._mend())

    def slow(self, share: float) -> None:
        """From now on, offer this share of the bandwidth."""
        self._up.share = self._down.share = share

    def close(self) -> None:
        """Cut the link for good."""
        if self._thread.is_alive():
            self._call(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        with closing(self._loop):
            self._loop.run_forever()

    def _call(self, act: Coroutine[None, None, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(act, self._loop)
        return done.result(ANSWER_S)

    async def _mend(self) -> None:
        if self._listeners:
            return
        for place, target in enumerate(self._targets):
            listener = socket.create_server((HOST, self.ports[place]))
            listener.setblocking(False)
            self.ports[place] = listener.getsockname()[1]
            self._loop.add_reader(listener, self._accept, listener, target)
            self._listeners.append(listener)

    async def _cut(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        # When asyncio's own server is closed, it loses the connections that it is about to accept.
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            _end_by_reset(connection, True)
            task = self._loop.create_task(self._carry(connection, target))
            self._carried.add(task)
            task.add_done_callback(partial(self._carried_out, connection))

    def _carried_out(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._carried.discard(task)
        connection.close()

    async def _carry(self, connection: socket.socket, target: tuple[str, int]) -> None:
        """Forward between both sides until both have ended; if either side resets the connection, both see a reset."""
        writers: list[asyncio.StreamWriter] = []
        try:
            near_in, near_out = await asyncio.open_connection(sock=connection, limit=CHUNK)
            writers.append(near_out)
            far_in, far_out = await asyncio.open_connection(*target, limit=CHUNK)
            writers.append(far_out)
            _end_by_reset(far_out.get_extra_info("socket"), True)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(near_in, far_out, self._up))
                both.create_task(self._forward(far_in, near_out, self._down))
            for writer in writers:
                _end_by_reset(writer.get_extra_info("socket"), False)
                writer.close()
                await writer.wait_closed()
        except* OSError:
            pass  # both are reset
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane) -> None:
        """Forward bytes until the stream ends, at the lane's speed."""
        travelling: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)
        async with asyncio.TaskGroup() as pair:
            pair.create_task(self._arrive(travelling, writer))
            heard, late_s = -QUIET_S, 0.0
            while data := await reader.read(CHUNK):
                now = self._now()
                if now - heard >= QUIET_S:
                    late_s = lane.next_late_s()
                left = lane.leaves(now, len(data))
                await self._until(left)
                await travelling.put((left + lane.latency_s + late_s, data))
                heard = max(now, left)
            await travelling.put((self._now(), b""))

    async def _arrive(self, travelling: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await travelling.get()
            await self._until(due)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def _until(self, due: float) -> None:
        if (seconds := due - self._now()) > 0.0:
            await self._sleep(seconds)


def _bit_s(transfer_s: Callable[[int, int], float], index: int) -> float:
    """A link's bits per second, derived from the seconds that transfers take."""
    megabyte_s = transfer_s(1_000_000, index) - transfer_s(0, index)
    return 8e6 / megabyte_s if megabyte_s > 0.0 else float("inf")


def _end_by_reset(connection: socket.socket, reset: bool) -> None:
    """Choose how closing the connection ends it for the other side: by a reset, or in order."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
