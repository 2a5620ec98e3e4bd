"""The JSONL event log of a run.

Its digest leaves out fields whose names begin with `wall_`, so that a replay of the experiment gives the same digest.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import nan
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from fednano.core.clock import wall
from fednano.core.events import EVENTS, FORMAT, WALL_PREFIX, Event
from fednano.core.failures import naming

FLUSH_S = 0.2
SHOWN = 40  # characters of a name that a message shows
T = TypeVar("T")


class InUseError(ValueError):
    """Another process writes the event log."""


class DamagedLogError(ValueError):
    """An event log is not as its run wrote it; the text is one line with file, line number, fault and remedy."""


_encode = msgspec.json.Encoder(enc_hook=lambda number: number.item()).encode  # of NumPy's types
_WALL = f',"{WALL_PREFIX}'.encode()  # cannot occur inside a string, whose quotes are escaped


class NewerLogError(ValueError):
    """An event log of a form that this version does not know."""


def to_line(event: Event) -> bytes:
    """The event as a line of the log, without the line break: one JSON object whose first field, `event`, is its type.

    null stands for a figure that diverged or was not measured. Fields that equal their default are left out.
    """
    return _encode(event)


def from_line(line: bytes | str) -> Event:
    """The event in a line; infinities come back as NaN. Raises ValueError, KeyError or TypeError without an event."""
    return from_record(msgspec.json.decode(line))


def from_record(record: dict[str, Any]) -> Event:
    """The event in a line's JSON object; null is read as NaN, also where an infinity was written.

    Raises KeyError for an unknown type, TypeError for wrong fields, NewerLogError for the beginning of a newer log.
    """
    if record["event"] == "RunStarted" and _newer(record):
        raise NewerLogError(f"the event log has format {record['format']}, and this version reads {FORMAT} at most")
    return EVENTS[record["event"]](**{k: _frozen(v) for k, v in record.items() if k != "event"})


def _newer(started: dict[str, Any]) -> bool:
    """Whether a log that begins so has a form that this version does not know."""
    form = started.get("format")
    return isinstance(form, int) and form > FORMAT


def _frozen(value: Any) -> Any:
    if value is None:
        return nan
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def read_log(path: Path) -> Iterator[Event]:
    """The events of an `events.jsonl`, in order. Raises DamagedLogError naming a line that is no event."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield used(path, number, line, from_record)


def read_whole(path: Path, use: Callable[[dict[str, Any]], T]) -> Iterator[T | None]:
    """The results of `use` for each line's JSON object, in order; None for a last line without a line break.

    Raises DamagedLogError naming the line that `use` fails for, be it no event or one that does not follow from those
    before it.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                yield None
                return
            yield used(path, number, line, use)


def used(path: Path, number: int, line: bytes, use: Callable[[dict[str, Any]], T]) -> T:
    """The result of `use` for the JSON object of line `number` of a log.

    Raises DamagedLogError if it fails, be the line no event or one that does not follow from those before it.
    """
    try:
        return use(msgspec.json.decode(line))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        remedy = "use a newer one" if isinstance(error, NewerLogError) else "restore the file"
        raise DamagedLogError(f"{path}, line {number} {_fault(line)}; {remedy}") from error


def _fault(line: bytes) -> str:
    """What is wrong with a line that could not be used, as the predicate of a sentence."""
    try:
        record = msgspec.json.decode(line)
    except ValueError:
        return "is not JSON" if line.endswith(b"\n") else "is incomplete"
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return "names no event"
    name = record["event"]
    if name == "RunStarted" and _newer(record):
        return f"says that the log has format {record['format']}, and this version of fednano reads {FORMAT} at most"
    if name not in EVENTS:
        return f"names an event that this version does not know, {name[:SHOWN]!a}"
    try:
        from_record(record)
    except TypeError:
        return f"does not have the fields of a {name}"
    return f"is a {name} that does not follow from the lines before it"


@dataclass(frozen=True)
class LogMark:
    """A position in an event log: after its first `events` events, whose digest is `sha256`.

    `whole_sha256` is the digest of all their bytes, wall-clock fields included; earlier versions recorded none.
    """

    events: int
    sha256: str
    whole_sha256: str = field(default="", compare=False)


class _Digests:
    """The digests of lines, one after the other."""

    def __init__(self) -> None:
        self._timeless = hashlib.sha256()
        self._whole = hashlib.sha256()
        self.events = 0

    def count(self, line: bytes) -> None:
        """Add a line, which comes without its line break."""
        ended = line + b"\n"
        self._whole.update(ended)
        at = line.find(_WALL)
        # The digest of a run leaves out the wall-clock fields, which come last.
        self._timeless.update(ended if at < 0 else line[:at] + b"}\n")
        self.events += 1

    def read(self, file: IO[bytes], keep: LogMark) -> bool:
        """Count the lines up to `keep`; returns whether they are those that it marks."""
        while self.events < keep.events and (line := file.readline()).endswith(b"}\n"):
            self.count(line[:-1])
        return self.mark() == keep and keep.whole_sha256 in ("", self.mark().whole_sha256)

    def mark(self) -> LogMark:
        return LogMark(self.events, self.sha256(), self._whole.hexdigest())

    def sha256(self) -> str:
        return self._timeless.hexdigest()


def require_beginning(path: Path, keep: LogMark) -> None:
    """Raise DamagedLogError unless the event log at `path` begins with the events that `keep` marks."""
    with path.open("rb") as file:
        if not _Digests().read(file, keep):
            raise _other_beginning(path, keep)


def _other_beginning(path: Path, keep: LogMark) -> DamagedLogError:
    try:
        for _ in islice(read_log(path), keep.events):
            pass
    except DamagedLogError as error:
        return error
    return DamagedLogError(
        f"{path} does not begin with the {keep.events} events before the checkpoint; restore the file"
    )


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
        DamagedLogError: the event log does not begin as `keep` says; the file is unchanged.
    """

    def __init__(self, path: Path | None, keep: LogMark | None = None) -> None:
        self._file: IO[bytes] | None = None
        self._path = path or Path()
        self._end = 0  # of what is written, in bytes
        self._digests = _Digests()
        self._lines: list[bytes] = []  # not yet written
        self._flushed = wall()
        if path:
            self._file = path.open("r+b" if keep else "ab")
            _lock(self._file, path)
            if keep and not self._digests.read(self._file, keep):
                raise _other_beginning(path, keep)
            self._end = self._file.tell() if keep else 0
            self._file.truncate(self._end)

    @property
    def events(self) -> int:
        """The number of events, including those before the position from which the event log was continued."""
        return self._digests.events

    def append(self, event: Event) -> None:
        line = to_line(event)
        self._digests.count(line)
        if self._file:
            self._lines.append(line)
            if wall() - self._flushed >= FLUSH_S:
                self.flush()

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
        return self._digests.mark()

    def sha256(self) -> str:
        """Digest of everything appended so far, wall-clock fields excluded."""
        return self._digests.sha256()

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
