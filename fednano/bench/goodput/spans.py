"""Spans of time: their union, difference, intersection and length."""

from collections.abc import Iterable, Sequence

TimeSpan = tuple[float, float]
"""(from, until), in seconds."""


def joined(spans: Iterable[TimeSpan]) -> list[TimeSpan]:
    """The union of `spans` as disjoint spans in order of time."""
    found: list[TimeSpan] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def without(spans: Sequence[TimeSpan], holes: Sequence[TimeSpan]) -> list[TimeSpan]:
    """What of `spans` lies outside `holes`; both are disjoint and in order of time, and so is what is returned."""
    left: list[TimeSpan] = []
    hole = 0
    for start, stop in spans:
        at = start
        while hole < len(holes) and holes[hole][0] < stop:
            begins, ends = holes[hole]
            if at < begins:
                left.append((at, begins))
            at = max(at, ends)
            if ends > stop:  # it reaches the next span
                break
            hole += 1
        if at < stop:
            left.append((at, stop))
    return left


def within(spans: Sequence[TimeSpan], frames: Sequence[TimeSpan]) -> list[TimeSpan]:
    """What of `spans` lies inside `frames`; as `without`."""
    return without(spans, without(spans, frames))


def seconds(spans: Iterable[TimeSpan]) -> float:
    """The length of disjoint spans."""
    return sum(stop - start for start, stop in spans)
