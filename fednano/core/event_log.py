"""The JSONL event log of a run.

Its digest leaves out fields whose names begin with `wall_`, so that a replay of the experiment gives the same digest.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from fednano.core.clock import wall
from fednano.core.events import EVENTS, WALL_PREFIX, Event
from fednano.core.failures import naming

FLUSH_S = 0.2
T = TypeVar("T")


class InUseError(ValueError):
    """Another process writes the event log."""


_encode = msgspec.json.Encoder(enc_hook=lambda number: number.item()).encode  # of NumPy's types
_WALL = f',"{WALL_PREFIX}'.encode()  # cannot occur inside a string, whose quotes are escaped


def to_line(event: Event) -> bytes:
    """The event as a line of the log, without the line break: one JSON object whose first field, `event`, is its type.

    null stands for a figure that diverged or was not measured. Fields that equal their default are left out.
    """
    return _encode(event)


def _timeless(line: bytes) -> bytes:
    """The part of a line that enters the digest: all but the wall-clock fields, which come last."""
    at = line.find(_WALL)
    return line if at < 0 else line[:at] + b"}"


def from_line(line: bytes | str) -> Event:
    """The event in a line; infinities come back as NaN. Raises ValueError, KeyError or TypeError without an event."""
    return from_record(msgspec.json.decode(line))


def from_record(record: dict[str, Any]) -> Event:
    """The event in a line's JSON object; null is read as NaN, also where an infinity was written.

    Raises KeyError for an unknown type, TypeError for wrong fields.
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
    """The results of `parse` for each line's JSON object, in order; None for a last line without a line break.

    Raises ValueError naming the line that `parse` cannot read.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                yield None
                return
            try:
                item = parse(msgspec.json.decode(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number} is not an event of this version ({error!r})") from error
            yield item


@dataclass(frozen=True)
class LogMark:
    """A position in an event log: after its first `events` events, whose digest is `sha256`."""

    events: int
    sha256: str


class EventLog:
    """Appends events to a JSONL file and computes their digest.

    Only whole lines are written, so that a killed run leaves a readable log. They are written at every `mark`, which
    ends each round, at the next event once FLUSH_S have passed, on `flush` and on `close`. The file is locked while it
    is open: a run folder has one writer.

    Args:
        path: the file; None: compute the digest only.
        keep: the position from which to continue an existing event log, which is truncated there; None: a new log.

    Raises:
        InUseError: another process writes the event log; the file is unchanged.
        ValueError: the event log does not begin as `keep` says; the file is unchanged.
    """

    def __init__(self, path: Path | None, keep: LogMark | None = None) -> None:
        self._file: IO[bytes] | None = None
        self._path = path or Path()
        self._end = 0  # of what is written, in bytes
        self._digest = hashlib.sha256()
        self._events = 0
        self._lines: list[bytes] = []  # not yet written
        self._flushed = wall()
        if path:
            self._file = path.open("r+b" if keep else "ab")
            _lock(self._file, path)
            if keep:
                self._read(self._file, keep, path)
            self._end = self._file.tell() if keep else 0
            self._file.truncate(self._end)

    def _read(self, file: IO[bytes], keep: LogMark, path: Path) -> None:
        while self._events < keep.events and (line := file.readline()).endswith(b"}\n"):
            self._count(line[:-1])
        if self.mark() != keep:
            raise ValueError(f"{path} does not begin with the {keep.events} events before the checkpoint; restore it")

    @property
    def events(self) -> int:
        """The number of events, including those before the position from which the event log was continued."""
        return self._events

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
        """Write all pending lines, for processes that follow the event log.

        Raises OSError, which names the file, if they cannot be written; the lines stay pending, and no part of them is
        left in the file.
        """
        if self._file and self._lines:
            data = b"\n".join((*self._lines, b""))
            with naming(self._path):
                try:
                    _write_at(self._file.fileno(), data, self._end)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(self._file.fileno(), self._end)
                    raise
            self._end += len(data)
            self._lines.clear()
        self._flushed = wall()

    def mark(self) -> LogMark:
        """Write all pending lines; returns the position after them."""
        self.flush()
        return LogMark(self._events, self.sha256())

    def sha256(self) -> str:
        """Digest of everything appended so far, wall-clock fields excluded."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Write all pending lines, as `flush` does, and close the file in any case."""
        if self._file:
            try:
                self.flush()
            finally:
                self._file.close()
                self._file = None


def _write_at(file: int, data: bytes, at: int) -> None:
    """Write all of `data` at this position."""
    left = memoryview(data)
    while left:
        left = left[os.pwrite(file, left, at + len(data) - len(left)) :]


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock `file` against other processes until it is closed or its process dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InUseError(f"{path} is in use by another process; wait for it or end it") from None
