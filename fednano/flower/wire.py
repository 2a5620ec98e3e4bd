"""Messages between a node's relay and its resident trainer, over a Unix socket.

A message is a prefix, a JSON header and, if there are arrays, the descriptor of an unlinked file that holds their bytes
one after the other. Nothing is pickled. Access is controlled by the socket's folder, which only its owner can enter.
Imports no torch, since Flower starts the relay anew for every message.
"""

import json
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fednano.process.temporary import SOCKET_BYTES

PREFIX = struct.Struct(">8sQ")  # MAGIC, and the number of bytes of the header
MAGIC = b"fednano1"
HEADER_BYTES = 1 << 26  # upper limit; spans of rows are the longest part
CONNECT_S = 10.0

TRAIN, HELLO, RENEW, RESULT, REFUSED = "train", "hello", "renew", "result", "refused"
NODE, ERROR = "fednano.node", "fednano.error"


@dataclass(frozen=True)
class WireMessage:
    """A message: one of the kinds above, and Flower records."""

    kind: str
    content: RecordDict = field(default_factory=RecordDict)


def refusal(reason: str) -> WireMessage:
    """The answer to a message that is refused."""
    return WireMessage(REFUSED, RecordDict({ERROR: ConfigRecord({"reason": reason})}))


def reason_of(content: RecordDict) -> str:
    """Why a task was refused."""
    return str(content.config_records[ERROR]["reason"])


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`; the folder is created, accessible to this user only.

    Raises:
        ValueError: the folder is open to others, or another trainer listens there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(path)
    with suppress(OSError), connect(path):
        raise ValueError(f"socket={path} is in use by another trainer; end it or choose another folder")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    listener.listen()
    return listener


def connect(path: Path) -> socket.socket:
    """A connection to `path`. Raises OSError if no process listens there, ValueError for an unsafe folder."""
    _check(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_S)
        connection.connect(os.fspath(path))
        connection.settimeout(None)
    except OSError:
        connection.close()
        raise
    return connection


def _check(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_BYTES:
        raise ValueError(f"socket must be <= {SOCKET_BYTES} bytes long, got {path}; choose a shorter folder")
    folder = path.parent.stat()
    if folder.st_uid != os.getuid() or folder.st_mode & 0o077:
        raise ValueError(f"socket={path} is in a folder open to others; make it private: chmod 700 {path.parent}")


def send(connection: socket.socket, parcel: WireMessage) -> None:
    """Send a message. Raises OSError if the other side is gone, ValueError for records that cannot be sent."""
    if parcel.content.metric_records:
        raise ValueError(
            f"records must be configs or arrays, got metrics {list(parcel.content.metric_records)}; leave them out"
        )
    records = parcel.content.array_records
    arrays = [array for record in records.values() for array in record.values()]
    header = {
        "kind": parcel.kind,
        "config": {name: dict(record) for name, record in parcel.content.config_records.items()},
        "arrays": {
            name: [[key, a.dtype, list(a.shape), a.stype, len(a.data)] for key, a in record.items()]
            for name, record in records.items()
        },
    }
    try:
        encoded = json.dumps(header).encode()
    except TypeError as error:
        raise ValueError(f"a message of kind {parcel.kind} has values that JSON cannot represent ({error})") from error
    with _shared(arrays) as descriptors:
        prefix = PREFIX.pack(MAGIC, len(encoded))
        sent = socket.send_fds(connection, [prefix], descriptors)
        connection.sendall(prefix[sent:] + encoded)


def receive(connection: socket.socket) -> WireMessage:
    """The next complete message.

    Raises:
        OSError: the other side is gone, before the message or in the middle of it.
        ValueError: the data received is not a message.
    """
    prefix, descriptors, flags, _ = socket.recv_fds(connection, PREFIX.size, 1)
    try:
        if flags & socket.MSG_CTRUNC:
            raise ValueError("a message came with more than one file")
        prefix += _exactly(connection, PREFIX.size - len(prefix))
        magic, size = PREFIX.unpack(prefix)
        if magic != MAGIC or size > HEADER_BYTES:
            raise ValueError("the data received is not a message of fednano; use one version on both sides")
        return _parsed(_exactly(connection, size), descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise ConnectionResetError("the other side closed the socket in the middle of a message")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _parsed(encoded: bytes, descriptors: list[int]) -> WireMessage:
    try:
        header = json.loads(encoded)
        config = {str(name): ConfigRecord(record) for name, record in header["config"].items()}
        arrays = _read(header["arrays"], descriptors)
        return WireMessage(str(header["kind"]), RecordDict({**config, **arrays}))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a message is malformed ({error!r}); use one version of fednano on both sides") from error


def _read(listed: dict[str, list[list[Any]]], descriptors: list[int]) -> dict[str, ArrayRecord]:
    """The arrays listed in a header, read from the file that came with it."""
    sizes = [entry[4] for record in listed.values() for entry in record]
    if any(not isinstance(size, int) or size < 0 for size in sizes):
        raise ValueError(f"sizes of arrays must be >= 0 bytes, got {sizes}")
    file = os.fstat(descriptors[0]) if descriptors else None
    if file and not stat.S_ISREG(file.st_mode):
        raise ValueError("arrays must come in a regular file")
    if sum(sizes) != (file.st_size if file else 0):
        raise ValueError(f"the file of the arrays must have {sum(sizes)} bytes, got {file.st_size if file else 0}")
    at, records = 0, {}
    for name, entries in listed.items():
        arrays = {}
        for key, dtype, shape, stype, size in entries:
            arrays[key] = Array(dtype, tuple(shape), stype=stype, data=_slice(descriptors, at, size))
            at += size
        records[name] = ArrayRecord(arrays)
    return records


def _slice(descriptors: list[int], at: int, size: int) -> bytes:
    data = os.pread(descriptors[0], size, at) if size else b""
    while len(data) < size:  # one call reads at most 2 GB
        more = os.pread(descriptors[0], size - len(data), at + len(data))
        if not more:
            raise ValueError("the file of the arrays was truncated while it was read")
        data += more
    return data


@contextmanager
def _shared(arrays: list[Array]) -> Iterator[list[int]]:
    """The descriptor of an unlinked in-memory file with the arrays; an empty list if they have no bytes."""
    if not any(len(array.data) for array in arrays):
        yield []
        return
    with _unlinked() as file:
        for array in arrays:
            view = memoryview(array.data)
            while view:
                view = view[os.write(file, view) :]
        yield [file]


@contextmanager
def _unlinked() -> Iterator[int]:
    if hasattr(os, "memfd_create"):  # Linux; /dev/shm is small in containers
        descriptor = os.memfd_create("fednano")
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
