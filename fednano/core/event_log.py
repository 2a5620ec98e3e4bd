"""The JSONL event log that holds a run's events.

Its digest leaves out fields whose names begin with `wall_`, so that the same experiment replayed gives the same one.
"""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from fednano.core.clock import wall
from fednano.core.events import EVENTS, WALL_PREFIX, Event

FLUSH_S = 0.2
T = TypeVar("T")


class InUseError(ValueError):
    """Another process writes the event log; the text says what to do."""


_encode = msgspec.json.Encoder(enc_hook=lambda number: number.item()).encode  # of NumPy's types
_WALL = f',"{WALL_PREFIX}'.encode()  # begins no part of a text, whose quotes are escaped


def to_line(event: Event) -> bytes:
    """The event as a line of the log, without its end: one JSON object, whose first field is its type under `event`.

    null is a figure that diverged or that nobody measured. What may be left out is, where it is the default.
    """
    return _encode(event)


def _timeless(line: bytes) -> bytes:
    """A line as it goes into the digest: without the wall-clock fields, which come last."""
    at = line.find(_WALL)
    return line if at < 0 else line[:at] + b"}"


def from_line(line: bytes | str) -> Event:
    """The event of a line, but for infinities. Raises ValueError, KeyError or TypeError where it is none."""
    return from_record(msgspec.json.decode(line))


def from_record(record: dict[str, Any]) -> Event:
    """The event of a line, but for infinities. Raises KeyError for an unknown type, TypeError for wrong fields.

    null is read as NaN.
    """
    return EVENTS[record["event"]](**{k: _frozen(v) for k, v in record.items() if k != "event"})


def _frozen(value: Any) -> Any:
    if value is None:
        return nan
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def read_log(path: Path) -> Iterator[Event]:
    """The events of an `events.jsonl`, in order."""
    with path.open("rb") as lines:
        yield from map(from_line, lines)


def read_whole(path: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[T | None]:
    """What `parse` makes of each line's record, in order; None for a last line without its end.

    Raises ValueError naming the line of which it can make nothing.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                yield None
                return
            try:
                item = parse(msgspec.json.decode(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number} is no event of this version ({error!r})") from error
            yield item


@dataclass(frozen=True)
class LogMark:
    """A place on an event log: behind its first `events` events, whose digest is `sha256`."""

    events: int
    sha256: str


class EventLog:
    """Appends events to a JSONL file and digests them on the way.

    Lines are written whole, so that a killed run leaves a readable log: at every `mark`, which a round ends with, at
    the next event once FLUSH_S have passed, on `flush` and on `close`. The file is locked while it is open: a run
    folder has one writer.

    Args:
        path: the file; None to digest alone.
        keep: where an event log that is there goes on; what lies behind is cut off. None begins a new one.

    Raises:
        InUseError: another process writes the event log; the file is as it was.
        ValueError: it does not hold what `keep` says; likewise.
    """

    def __init__(self, path: Path | None, keep: LogMark | None = None) -> None:
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._events = 0
        self._lines: list[bytes] = []  # not yet written
        self._flushed = wall()
        if path:
            self._file = path.open("r+b" if keep else "ab")
            _lock(self._file, path)
            if keep:
                self._read(self._file, keep, path)
            self._file.truncate(self._file.seek(self._file.tell() if keep else 0))

    def _read(self, file: IO[bytes], keep: LogMark, path: Path) -> None:
        while self._events < keep.events and (line := file.readline()).endswith(b"}\n"):
            self._count(line[:-1])
        if self.mark() != keep:
            raise ValueError(f"{path} does not begin with the {keep.events} events before the checkpoint; restore it")

    def append(self, event: Event) -> None:
        line = to_line(event)
        self._count(line)
        if self._file:
            self._lines.append(line)
            if wall() - self._flushed >= FLUSH_S:
                self.flush()

    def _count(self, line: bytes) -> None:
        self._digest.update(_timeless(line) + b"\n")
        self._events += 1

    def flush(self) -> None:
        """Write every line, for who follows the event log while nothing happens."""
        if self._file and self._lines:
            self._file.write(b"\n".join((*self._lines, b"")))
            self._file.flush()
            self._lines.clear()
        self._flushed = wall()

    def mark(self) -> LogMark:
        """The place behind everything appended so far, which is on disk then."""
        self.flush()
        return LogMark(self._events, self.sha256())

    def sha256(self) -> str:
        """Digest of everything appended so far, wall-clock fields excluded."""
        return self._digest.hexdigest()

    def close(self) -> None:
        if self._file:
            self.flush()
            self._file.close()
            self._file = None


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold `file` among processes until it is closed, also by the death of its process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InUseError(f"{path} is written by another process; wait for it or end it") from None
