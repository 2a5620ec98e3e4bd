"""The thread that exchanges data with Redis, so that no other thread waits for the network."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread

from fednano.coordination.redis_link import LostError
from fednano.core.clock import pause
from fednano.core.randomness import generator

FIRST_S, MOST_S = 0.1, 2.0  # first and longest pause between two attempts to reach Redis


class Courier:
    """Calls `visit` in a thread, every `every_s` seconds and whenever it is woken.

    A visit that raises LostError is repeated after growing pauses. Any other error ends the thread, and `check` raises
    it in the thread that calls it.

    Args:
        who: name of the thread and of its random draws.
        visit: one exchange with Redis.
        every_s: seconds between two visits.
    """

    def __init__(self, who: str, visit: Callable[[], None], every_s: float) -> None:
        self.connected = True  # its owner has just reached Redis
        self._visit = visit
        self._every_s = every_s
        self._draws = generator(0, "redis", who, "backoff")
        self._woken: SimpleQueue[Event | None] = SimpleQueue()
        self._closing = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"fednano-redis-{who}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise the error that ended the thread, if there was one."""
        if isinstance(self._error, ValueError):
            raise self._error
        if self._error is not None:
            raise RuntimeError(f"the thread that talks to Redis ended ({self._error!r})") from self._error

    def wake(self) -> None:
        """Make the next visit now. Safe in a signal handler."""
        self._woken.put(None)

    def visited(self, timeout_s: float) -> bool:
        """Wait for a visit that begins after this call; False if Redis is lost or does not answer in time."""
        done = Event()
        self._woken.put(done)
        return self._thread.is_alive() and done.wait(timeout_s) and self.connected

    def close(self) -> None:
        """Make a last visit, if Redis can be reached, and end the thread."""
        self._closing.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        waiting: list[Event] = []
        lost = 0
        try:
            while True:
                last = self._closing.is_set()
                waiting = self._drained()
                try:
                    self._visit()
                    self.connected, lost = True, 0
                except LostError:
                    self.connected, lost = False, lost + 1
                _release(waiting)
                if last:
                    return
                if lost:
                    # Random pauses, so that many clients do not reconnect at the same moment.
                    pause(min(MOST_S, FIRST_S * 2 ** min(lost, 10)) * self._draws.uniform(0.5, 1.0), self._closing)
                else:
                    self._rest()
        except BaseException as error:
            self._error, self.connected = error, False
        finally:
            _release(waiting + self._drained())

    def _rest(self) -> None:
        try:
            event = self._woken.get(timeout=self._every_s)
        except Empty:
            return
        self._woken.put(event)

    def _drained(self) -> list[Event]:
        """The events of the callers that wait for the next visit."""
        waiting: list[Event] = []
        while True:
            try:
                event = self._woken.get_nowait()
            except Empty:
                return waiting
            if event is not None:
                waiting.append(event)


def _release(waiting: list[Event]) -> None:
    for event in waiting:
        event.set()
