"""The JSONL tape that holds a run's events.

Its digest leaves out fields whose names begin with `wall_`, so that the same experiment replayed gives the same one.
"""

import fcntl
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite, nan
from pathlib import Path
from typing import IO, Any, TypeVar

from fednano.clock import wall
from fednano.events import EVENTS, WALL_PREFIX, Event, finite

FLUSH_S = 0.2
T = TypeVar("T")


class InUseError(ValueError):
    """Another process writes the tape; the text says what to do."""


def _lines(event: Event) -> tuple[str, str]:
    """The event's line on a tape, and the one that goes into the digest: sorted, without wall-clock fields.

    A line is one JSON object: the event's type under `event`, then its fields; null is a figure that diverged or that
    nobody measured. A list that may be left out is, where it is empty.
    """
    kind: Any = type(event)  # a class, which mypy does not take for hashable
    values = vars(event)
    texts = {name: _JSON[type(value)](value) for name, value in values.items()}
    spared = _spared(kind)
    line, timeless = _templates(kind, tuple([name for name in spared if not values[name]]) if spared else ())
    return line % texts, timeless % texts


@cache
def _spared(kind: type[Event]) -> tuple[str, ...]:
    """The lists that may be left out."""
    return tuple(f.name for f in fields(kind) if f.default == ())


@cache
def _templates(kind: type[Event], left_out: tuple[str, ...]) -> tuple[str, str]:
    """`_lines` of a type without the fields in `left_out`, for their values to be filled in by name."""
    items = {f.name: f'"{f.name}": %({f.name})s' for f in fields(kind) if f.name not in left_out}
    items = {"event": f'"event": "{kind.__name__}"', **items}
    timeless = [item for name, item in sorted(items.items()) if not name.startswith(WALL_PREFIX)]
    return f"{{{', '.join(items.values())}}}\n", f"{{{', '.join(timeless)}}}\n"


def _json(value: Any) -> str:
    return json.dumps(finite(value), sort_keys=True, allow_nan=False)


# The types that fields have; whatever else comes is json's.
_JSON: dict[type, Callable[[Any], str]] = defaultdict(
    lambda: _json,
    {
        str: json.encoder.encode_basestring_ascii,
        int: repr,
        float: lambda value: repr(value) if isfinite(value) else "null",
        bool: lambda value: "true" if value else "false",
        tuple: lambda value: f"[{', '.join([_JSON[type(item)](item) for item in value])}]",
    },
)


def _timeless(record: dict[str, Any]) -> str:
    """A line of a tape as it goes into the digest."""
    kept = {name: value for name, value in record.items() if not name.startswith(WALL_PREFIX)}
    return json.dumps(kept, sort_keys=True, allow_nan=False) + "\n"


def from_record(record: dict[str, Any]) -> Event:
    """The event of a line, but for infinities. Raises KeyError for an unknown type, TypeError for wrong fields.

    null is read as NaN.
    """
    return EVENTS[record["event"]](**{k: _frozen(v) for k, v in record.items() if k != "event"})


def _frozen(value: Any) -> Any:
    if value is None:
        return nan
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def read_tape(path: Path) -> Iterator[Event]:
    """The events of an `events.jsonl`, in order."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from_record(json.loads(line))


def read_whole(path: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[T | None]:
    """What `parse` makes of each line's record, in order; None for a last line without its end.

    Raises ValueError naming the line of which it can make nothing.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                yield None
                return
            try:
                item = parse(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number} is no event of this version ({error!r})") from error
            yield item


@dataclass(frozen=True)
class TapeMark:
    """A place on a tape: behind its first `events` events, whose digest is `sha256`."""

    events: int
    sha256: str


class Tape:
    """Appends events to a JSONL file and digests them on the way.

    Lines are written whole, so that a killed run leaves a readable tape: at every `mark`, which a round ends with, at
    the next event once FLUSH_S have passed, on `flush` and on `close`. The file is locked while it is open: a run
    folder has one writer.

    Args:
        path: the file; None to digest alone.
        keep: where a tape that is there goes on; what lies behind is cut off. None begins a new one.

    Raises:
        InUseError: another process writes the tape; the file is as it was.
        ValueError: it does not hold what `keep` says; likewise.
    """

    def __init__(self, path: Path | None, keep: TapeMark | None = None) -> None:
        self._file: IO[str] | None = None
        self._digest = hashlib.sha256()
        self._events = 0
        self._lines: list[str] = []  # not yet written
        self._flushed = wall()
        if path:
            self._file = path.open("r+" if keep else "a", encoding="utf-8")
            _lock(self._file, path)
            if keep:
                self._read(self._file, keep, path)
            self._file.truncate(self._file.seek(self._file.tell() if keep else 0))

    def _read(self, file: IO[str], keep: TapeMark, path: Path) -> None:
        while self._events < keep.events and (line := file.readline()).endswith("}\n"):
            self._count(_timeless(json.loads(line)))
        if self.mark() != keep:
            raise ValueError(f"{path} does not begin with the {keep.events} events before the checkpoint; restore it")

    def append(self, event: Event) -> None:
        line, timeless = _lines(event)
        self._count(timeless)
        if self._file:
            self._lines.append(line)
            if wall() - self._flushed >= FLUSH_S:
                self.flush()

    def _count(self, timeless: str) -> None:
        self._digest.update(timeless.encode())
        self._events += 1

    def flush(self) -> None:
        """Write every line, for who follows the tape while nothing happens."""
        if self._file and self._lines:
            self._file.write("".join(self._lines))
            self._file.flush()
            self._lines.clear()
        self._flushed = wall()

    def mark(self) -> TapeMark:
        """The place behind everything appended so far, which is on disk then."""
        self.flush()
        return TapeMark(self._events, self.sha256())

    def sha256(self) -> str:
        """Digest of everything appended so far, wall-clock fields excluded."""
        return self._digest.hexdigest()

    def close(self) -> None:
        if self._file:
            self.flush()
            self._file.close()
            self._file = None


def _lock(file: IO[str], path: Path) -> None:
    """Hold `file` among processes until it is closed, also by the death of its process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InUseError(f"{path} is written by another process; wait for it or end it") from None
