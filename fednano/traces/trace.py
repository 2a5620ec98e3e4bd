"""Sampled signals over time, such as power, carbon intensity or price, with exact integrals."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interpolation = Literal["step", "linear"]


class Trace:
    """A function of time through samples: steps, each holding until the next stamp, or straight lines between samples.

    In both cases the last sample holds from its stamp to `end`. Before the first stamp and after `end` the trace
    repeats with the period `end - start`, or holds its first and last value.

    Args:
        times: (n,) stamps in seconds, ascending.
        values: (n,) samples in any unit.
        interpolation: step or linear.
        end: seconds; None: one more step after the last stamp, as long as the step before it.
        repeat: whether the trace repeats from `end` on.

    Raises:
        ValueError: there are no samples, shapes differ, a number is not finite, stamps do not ascend, or `end` is not
            after them.
    """

    def __init__(
        self,
        times: ArrayLike,
        values: ArrayLike,
        interpolation: Interpolation = "step",
        end: float | None = None,
        repeat: bool = False,
    ) -> None:
        self.times: Array = np.asarray(times, dtype=np.float64)
        self.values: Array = np.asarray(values, dtype=np.float64)
        self.interpolation = interpolation
        self.repeat = repeat
        n = len(self.times)
        if self.times.shape != (n,) or self.values.shape != (n,) or n == 0:
            raise ValueError(
                f"a trace must have n >= 1 times and n values, got the shapes {self.times.shape} and "
                f"{self.values.shape}; give n of each"
            )
        if end is None:
            end = float(2 * self.times[-1] - self.times[-2]) if n > 1 else float(self.times[0]) + 1.0
        self._edges = np.append(self.times, end)
        if not (np.isfinite(self._edges).all() and np.isfinite(self.values).all()):
            raise ValueError("a trace's stamps and values must be finite; fill its gaps first")
        if not (np.diff(self._edges) > 0).all():
            raise ValueError("a trace's stamps and end must ascend; sort them and remove duplicates")
        areas = np.diff(self._edges) * self._left_and_right().mean(axis=0)
        self._area = np.concatenate(([0.0], np.cumsum(areas)))

    @property
    def start(self) -> float:
        """The first stamp, seconds."""
        return float(self._edges[0])

    @property
    def end(self) -> float:
        """Where the last sample ends, seconds."""
        return float(self._edges[-1])

    def value(self, t: ArrayLike) -> Array:
        """The signal at `t` (seconds), in the shape of `t`."""
        _, inside = self._fold(np.asarray(t, dtype=np.float64))
        return self._inside(inside)

    def integral(self, a: ArrayLike, b: ArrayLike) -> Array:
        """The exact integral from `a` to `b` (seconds, broadcast), in units of the signal times seconds."""
        return self._integral_to(np.asarray(b, dtype=np.float64)) - self._integral_to(np.asarray(a, dtype=np.float64))

    def crossings(self, threshold: float) -> Array:
        """(k,) times within [start, end) at which the signal rises above `threshold` or is no longer above it.

        The state at `start` is not a crossing; use `value(start) > threshold` for that.
        """
        left, right = self._left_and_right()
        above = np.column_stack((left > threshold, right > threshold))
        fraction = np.divide(threshold - left, right - left, out=np.zeros_like(left), where=right != left)
        # Within a segment a line crosses; between two segments a step jumps.
        within = (self._edges[:-1] + fraction * np.diff(self._edges))[above[:, 0] != above[:, 1]]
        between = self._edges[1:-1][above[:-1, 1] != above[1:, 0]]
        return np.sort(np.concatenate((within, between)))

    def stamps(self, a: float, b: float) -> Array:
        """(k,) times within [a, b) at which a segment begins, including repetitions."""
        found = self._edges
        if self.repeat:
            period = self.end - self.start
            first, last = (int(np.floor((t - self.start) / period)) for t in (a, b))
            found = (np.arange(first, last + 1)[:, None] * period + self.times).ravel()
        return found[(found >= a) & (found < b)]

    def on_run_clock(self, offset_s: float = 0.0, speedup: float = 1.0) -> "Trace":
        """The same signal on a clock that starts at `offset_s` and on which `speedup` seconds pass in one second."""
        times, end = (self.times - offset_s) / speedup, (self.end - offset_s) / speedup
        return Trace(times, self.values, self.interpolation, end, self.repeat)

    def _left_and_right(self) -> Array:
        """(2, n) the signal at the beginning and towards the end of each segment."""
        right = np.append(self.values[1:], self.values[-1]) if self.interpolation == "linear" else self.values
        return np.stack((self.values, right))

    def _fold(self, t: Array) -> tuple[Array, Array]:
        """The number of whole periods before `t`, and the rest: a time within [start, end] if the trace repeats."""
        if not self.repeat:
            return np.zeros_like(t), t
        period = self.end - self.start
        periods = np.floor((t - self.start) / period)
        return periods, np.clip(t - periods * period, self.start, self.end)

    def _segment(self, t: Array) -> NDArray[np.intp]:
        # The same as np.clip, which takes several times as long on few values.
        return np.minimum(np.maximum(np.searchsorted(self._edges, t, side="right") - 1, 0), len(self.values) - 1)

    def _inside(self, t: Array) -> Array:
        if self.interpolation == "linear":
            return np.asarray(np.interp(t, self.times, self.values))
        return np.asarray(self.values[self._segment(t)])

    def _integral_to(self, t: Array) -> Array:
        """The integral from `start` to `t`."""
        periods, inside = self._fold(t)
        k = self._segment(inside)
        # Beyond both ends the first and last values hold; the same sum covers that.
        mean = (self._inside(self._edges[k]) + self._inside(inside)) / 2
        return np.asarray(periods * self._area[-1] + self._area[k] + (inside - self._edges[k]) * mean)
