"""Links between clients and the server, for virtual time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fednano.core.randomness import generator
from fednano.core.ranges import Range

Bandwidth = Annotated[float, Range(ge=1e-6, le=math.inf)]
Delay = Annotated[float, Range(le=1e6)]


@dataclass(frozen=True, kw_only=True)
class Network:
    """The links of all clients. Several values of a setting are dealt to the clients in turn.

    Args:
        name: name in summaries.
        up_mbit_s: bandwidth from client to server, megabits per second; several values are dealt to the clients in
            turn.
        down_mbit_s: bandwidth from server to client, in the same forms.
        latency_s: one-way latency, seconds.
        jitter_s: mean of the exponential delay of a transfer, seconds.
    """

    name: str
    up_mbit_s: Bandwidth | Sequence[Bandwidth]
    down_mbit_s: Bandwidth | Sequence[Bandwidth]
    latency_s: Delay | Sequence[Delay]
    jitter_s: Delay | Sequence[Delay] = 0.0

    def __post_init__(self) -> None:
        for key in ("up_mbit_s", "down_mbit_s"):
            for value in _several(getattr(self, key), key):
                if not value > 0:
                    raise ValueError(f"network.{key} must be > 0 Mbit/s, got {value}; use a bandwidth such as 10")
        for key in ("latency_s", "jitter_s"):
            for value in _several(getattr(self, key), key):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"network.{key} must be >= 0 seconds and finite, got {value}; use 0 or more")

    def up_s(self, size: int, index: int = 0) -> float:
        """Seconds that `size` bytes take from the client with this index to the server, without jitter."""
        return _dealt(self.latency_s, index) + size * 8e-6 / _dealt(self.up_mbit_s, index)

    def down_s(self, size: int, index: int = 0) -> float:
        """Seconds that `size` bytes take from the server to the client with this index, without jitter."""
        return _dealt(self.latency_s, index) + size * 8e-6 / _dealt(self.down_mbit_s, index)

    def submit_s(self, size: int, index: int = 0) -> float:
        """Seconds that a client reserves to submit `size` bytes; 95 of 100 submissions take no longer."""
        return self.up_s(size, index) + 3.0 * _dealt(self.jitter_s, index)

    def late_s(self, index: int, seed: int, *transfer: str | float) -> float:
        """Jitter of the transfer named by `transfer`, seconds. Equal arguments give equal seconds."""
        mean = _dealt(self.jitter_s, index)
        if not mean:
            return 0.0
        return float(generator(seed, index, "jitter", *map(str, transfer)).exponential(mean))


def _several(value: float | Sequence[float], key: str) -> Sequence[float]:
    values = value if isinstance(value, Sequence) else [value]
    if not values:
        raise ValueError(f"network.{key} must have at least one value, got []; give a number, or one for each client")
    return values


def _dealt(value: float | Sequence[float], index: int) -> float:
    return value if isinstance(value, float | int) else value[index % len(value)]
