"""The `runtime/signal` choices, which say which clients should be up now.

A profile is looked up directly. A thread polls signals that come over a network, so a lookup never waits. The last
answer stays valid for a while; after that the client counts as down.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Literal, Protocol
from urllib.parse import urlsplit

import httpx

from fednano.runtime.deployment.nodes.polling import PolledWatch, Polling, fetch, figure, switch
from fednano.volatility.membership import Membership


class Watch(Protocol):
    """A running watch of a signal."""

    def wanted(self, client: str, t: float) -> bool:
        """Whether the client should be up at `t`, in real seconds since the run began. Does not wait."""

    def lost(self) -> list[tuple[tuple[str, ...], str]]:
        """(clients, cause) for clients that have counted as down since the last call, because no answer came."""

    def close(self) -> None:
        """Stop polling."""


@dataclass(frozen=True)
class Watched:
    """What a signal watches, and the sources it may read.

    Args:
        clients: the clients' names.
        membership: the volatility profile's windows, in seconds of the profile.
        speedup: seconds of the profile per real second.
        value: the value of a key in the run's coordination store; None if it is not set. Raises SignalError.
    """

    clients: Sequence[str]
    membership: Membership
    speedup: float
    value: Callable[[str], str | None]


class Signal(Protocol):
    """A `runtime/signal` choice."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """Raise ValueError if something it needs is missing."""

    def watch(self, watched: Watched) -> Watch: ...


@dataclass(frozen=True, kw_only=True)
class ProfileSignal:
    """Clients should be up while `volatility` says so.

    Args:
        name: the signal's name.
    """

    name: str = "profile"

    def check(self) -> None:
        """Nothing to check."""

    def watch(self, watched: Watched) -> Watch:
        return _ProfileWatch(watched)


@dataclass(frozen=True)
class _ProfileWatch:
    watched: Watched

    def wanted(self, client: str, t: float) -> bool:
        return self.watched.membership.is_up(client, t * self.watched.speedup)

    def lost(self) -> list[tuple[tuple[str, ...], str]]:
        return []

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, kw_only=True)
class UrlSignal(Polling):
    """Clients should be up while a figure in a JSON document at a URL is below or above a threshold.

    Args:
        name: the signal's name.
        url: http or https; {client}, {index} and {site} stand for the client's name, index and site. Clients with the
            same URL share its answers.
        sites: assigned to the clients in turn, if the URL contains {site}.
        path: path of the figure: keys and list indices joined by dots, such as data.0.value.
        open_when: the side of the threshold, below or above, on which a client should be up.
        threshold: in the figure's unit.
        token_env: environment variable that holds a bearer token; never write the token itself into a file.
    """

    name: str = "url"
    url: str
    sites: list[str] | None = None
    path: str
    open_when: Literal["below", "above"] = "below"
    threshold: float
    token_env: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            fields = [name for _, name, spec, how in Formatter().parse(self.url) if name is not None]
        except ValueError as error:
            raise ValueError(
                f"runtime.signal.url={self.url} cannot be read ({error}); write {{{{ and }}}} for literal braces"
            ) from error
        for name in fields:
            if name not in ("client", "index", "site"):
                raise ValueError(
                    f"runtime.signal.url={self.url} has the unknown placeholder {{{name}}}; use {{client}}, {{index}} "
                    "or {site}"
                )
        if ("site" in fields) != bool(self.sites):
            raise ValueError(
                f"runtime.signal.sites must be set exactly if runtime.signal.url contains {{site}}, got {self.sites} "
                f"with {self.url}; give both or neither"
            )
        if not re.match(r"https?://[^/\s]+", self.url):
            raise ValueError(f"runtime.signal.url must be an http or https address, got {self.url}; name one")
        if not self.path or "" in self.path.split("."):
            raise ValueError(
                f"runtime.signal.path must be keys and indices, got {self.path}; use one such as data.0.value"
            )
        if self.open_when not in ("below", "above"):
            raise ValueError(
                f"runtime.signal.open_when must be below or above, got {self.open_when}; choose one of them"
            )
        if not math.isfinite(self.threshold):
            raise ValueError(f"runtime.signal.threshold must be finite, got {self.threshold}; use a number")
        if self.token_env is not None and not self.token_env.isidentifier():
            raise ValueError(
                f"runtime.signal.token_env must name an environment variable, got {self.token_env}; use letters and _"
            )
        if self.token_env and not self.url.startswith("https://") and not _is_loopback(self.url):
            raise ValueError(f"runtime.signal.url must use https or loopback with a token, got {self.url}; use https")

    def check(self) -> None:
        if self.token_env and not os.environ.get(self.token_env):
            raise ValueError(
                f"runtime.signal.token_env={self.token_env} is not set in the environment; set it to the token, or "
                "leave runtime.signal.token_env out"
            )

    def watch(self, watched: Watched) -> Watch:
        self.check()
        headers = {"Accept": "application/json"}
        if self.token_env:
            headers["Authorization"] = f"Bearer {os.environ[self.token_env]}"
        http = httpx.Client(timeout=self.timeout_s, headers=headers)
        urls = {client: self.address(client, index) for index, client in enumerate(watched.clients)}

        def question(url: str) -> Callable[[], bool]:
            return lambda: self.is_open(figure(fetch(http, url), self.path))

        return PolledWatch({client: (url, question(url)) for client, url in urls.items()}, self, http.close)

    def address(self, client: str, index: int) -> str:
        """The URL of a client's figure."""
        site = self.sites[index % len(self.sites)] if self.sites else ""
        return self.url.format(client=client, index=index, site=site)

    def is_open(self, value: float) -> bool:
        """Whether a client should be up at this figure."""
        return value < self.threshold if self.open_when == "below" else value > self.threshold


@dataclass(frozen=True, kw_only=True)
class RedisSignal(Polling):
    """A key of the run's coordination store says whether a client should be up.

    The value is 1, true or up, or else 0, false or down; without the key, the client should be down.

    Args:
        name: the signal's name.
        key: below the run's prefix; {client} stands for the client's name, {index} for its index.
    """

    name: str = "redis"
    key: str = "wanted:{client}"
    interval_s: float = 1.0
    hold_s: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"(?:[\w.:-]|\{client\}|\{index\})+", self.key):
            raise ValueError(
                f"runtime.signal.key must be a key, got {self.key}; use letters, digits, :, {{client}} and {{index}}"
            )

    def check(self) -> None:
        """Nothing to check: the coordination store is the run's own."""

    def watch(self, watched: Watched) -> Watch:
        keys = {client: self.key.format(client=client, index=index) for index, client in enumerate(watched.clients)}

        def question(key: str) -> Callable[[], bool]:
            return lambda: switch(watched.value(key))

        return PolledWatch({client: (key, question(key)) for client, key in keys.items()}, self, lambda: None)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
