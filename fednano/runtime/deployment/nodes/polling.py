"""Polling of a signal in a thread; the last answer is held for a while."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx

from fednano.core.clock import wall

LONGEST_WAIT_S = 600.0  # between two questions while they fail
MOST_BYTES = 1 << 20  # maximum size of an answer
UP, DOWN = ("1", "true", "up"), ("0", "false", "down")


class SignalError(Exception):
    """There was no answer, or no usable one; the text contains no secret."""


@dataclass(frozen=True, kw_only=True)
class Polling:
    """How often a signal is polled.

    Args:
        interval_s: seconds between two queries; doubled with each failure in a row, up to ten minutes.
        timeout_s: seconds per query, after which it has failed.
        hold_s: seconds for which the last answer holds if no other comes; then the client counts as down.
    """

    interval_s: float = 60.0
    timeout_s: float = 10.0
    hold_s: float = 900.0

    def __post_init__(self) -> None:
        for key in ("interval_s", "timeout_s", "hold_s"):
            if not 0.0 < getattr(self, key) < math.inf:
                raise ValueError(
                    f"runtime.signal.{key} must be finite and > 0 s, got {getattr(self, key)}; give seconds, such as 60"
                )

    def wait_s(self, failures: int) -> float:
        """Seconds until the next question after `failures` failures in a row."""
        return min(max(LONGEST_WAIT_S, self.interval_s), self.interval_s * 2.0**failures)


class Poller:
    """One question that is asked repeatedly.

    Args:
        ask: returns the answer. Raises SignalError.
        polling: how often to ask.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, ask: Callable[[], bool], polling: Polling, now: Callable[[], float] = wall) -> None:
        self._ask = ask
        self._polling = polling
        self._now = now
        self._heard: tuple[bool, float] | None = None  # the last answer, and when
        self._begun = now()
        self._failures = 0
        self.cause = "there was no answer yet"
        self.died: BaseException | None = None

    def poll(self) -> float:
        """Ask once; returns the seconds until the next question."""
        try:
            self._heard = self._ask(), self._now()
            self._failures = 0
        except SignalError as error:
            self.cause = str(error)
            self._failures += 1
        return self._polling.wait_s(self._failures)

    def answer(self) -> bool | None:
        """The last answer; None if it is too old, or there is none. Raises RuntimeError if polling has failed."""
        if self.died:
            raise RuntimeError("polling of a signal has died") from self.died
        if self._heard is None or self._now() - self._heard[1] > self._polling.hold_s:
            return None
        return self._heard[0]

    def overdue(self) -> bool:
        """Whether there was no answer for as long as an answer is held."""
        return self.answer() is None and self._now() - self._begun > self._polling.hold_s

    def run(self, until: Flag) -> None:
        """Poll until the flag is set."""
        try:
            while not until.wait(self.poll()):
                pass
        except BaseException as error:
            if not until.is_set():  # otherwise it was closed while it asked
                self.died = error


class PolledWatch:
    """Implements `Watch`. `questions` holds (what is asked, the question) by client; equal questions share a thread."""

    def __init__(
        self, questions: dict[str, tuple[str, Callable[[], bool]]], polling: Polling, close: Callable[[], None]
    ) -> None:
        self._end = Flag()
        self._close = close
        self._pollers = {what: Poller(ask, polling) for what, ask in questions.values()}
        self._asked = {client: what for client, (what, _) in questions.items()}
        self._lost: set[str] = set()
        for what, poller in self._pollers.items():
            Thread(target=poller.run, args=(self._end,), name=f"fednano-signal-{what}", daemon=True).start()

    def wanted(self, client: str, t: float) -> bool:
        return self._pollers[self._asked[client]].answer() is True

    def lost(self) -> list[tuple[tuple[str, ...], str]]:
        overdue = {what for what, poller in self._pollers.items() if poller.overdue()}
        new, self._lost = overdue - self._lost, overdue
        return [
            (tuple(client for client, asked in self._asked.items() if asked == what), self._pollers[what].cause)
            for what in sorted(new)
        ]

    def close(self) -> None:
        self._end.set()
        self._close()


def fetch(http: httpx.Client, url: str) -> Any:
    """The JSON document at `url`. Raises SignalError, which names only the host: path and query may be secret."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        with http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise SignalError(f"{host} answered {response.status_code} {response.reason_phrase}".strip())
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise SignalError(f"{host} answered with more than {MOST_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SignalError(f"{host} did not answer ({type(error).__name__})") from error
    try:
        return json.loads(body)
    except ValueError as error:
        raise SignalError(f"{host} did not answer in JSON") from error


def figure(document: Any, path: str) -> float:
    """The number at `path` of a JSON document. Raises SignalError."""
    node = document
    for place in path.split("."):
        try:
            node = node[int(place)] if isinstance(node, list) else node[place]
        except (KeyError, IndexError, TypeError, ValueError):
            raise SignalError(f"the answer has no {path}; {place} is missing") from None
    if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
        raise SignalError(f"{path} of the answer is not a number")
    return float(node)


def switch(value: str | None) -> bool:
    """Whether the value of a key means up. Raises SignalError."""
    if value is None or value.lower() in DOWN:
        return False
    if value.lower() in UP:
        return True
    raise SignalError(f"a key must be one of {', '.join((*UP, *DOWN))}, got {value[:20]!r}; write one of them")
