"""The speed of one client: a piecewise constant share of its hardware's speed, made on demand."""

import bisect
import math
from array import array
from collections.abc import Iterator

MOST_PIECES = 5_000_000  # which are kept


class Speed:
    """Consecutive pieces (until, factor) from 0 s on, read lazily. If they are finite, the last must never end.

    Raises:
        ValueError: a piece is empty, or a factor is not above 0.
    """

    def __init__(self, pieces: Iterator[tuple[float, float]]) -> None:
        self._source = pieces
        self._until = array("d")
        self._factor = array("d")
        self._done = array("d")  # seconds at full speed up to the end of each piece

    def at(self, t: float) -> float:
        """The factor at `t`."""
        return self._factor[self._piece(t)]

    def next_change(self, t: float) -> float:
        """The end of the piece that contains `t`."""
        return self._until[self._piece(t)]

    def full_seconds(self, start: float, stop: float) -> float:
        """The time [start, stop) in equivalent seconds at full speed: the integral of the factor."""
        return self._worth(stop) - self._worth(start)

    def _worth(self, t: float) -> float:
        k = self._piece(t)
        if k == 0:
            return t * self._factor[0]
        return self._done[k - 1] + (t - self._until[k - 1]) * self._factor[k]

    def _piece(self, t: float) -> int:
        while not self._until or self._until[-1] <= t:
            begun = self._until[-1] if self._until else 0.0
            if len(self._until) >= MOST_PIECES:
                raise ValueError(
                    f"volatility must change a client's speed at most {MOST_PIECES:,} times in a run, got more by "
                    f"{begun:g} s; let speeds last longer, or use a shorter run"
                )
            until, factor = next(self._source)
            if not (until > begun and factor > 0):
                raise ValueError(f"a speed must be > 0 until a time after {begun} s, got {factor} until {until} s")
            self._done.append((self._done[-1] if self._done else 0.0) + factor * (until - begun))
            self._until.append(until)
            self._factor.append(factor)
        return bisect.bisect_right(self._until, t)


def steady(factor: float = 1.0) -> Speed:
    """The speed of a client whose factor never changes."""
    return Speed(iter([(math.inf, factor)]))


def product(speeds: list[Speed]) -> Speed:
    """The product of all factors at each time."""

    def pieces() -> Iterator[tuple[float, float]]:
        t = 0.0
        while t < math.inf:
            until = min(speed.next_change(t) for speed in speeds)
            yield until, math.prod(speed.at(t) for speed in speeds)
            t = until

    return Speed(pieces())
