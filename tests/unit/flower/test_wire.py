"""The socket between relay and trainer: whole messages, or a refusal that says why."""

import gc
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fednano.flower import relay, wire
from fednano.flower.compat.messages import adopt_identity
from fednano.flower.wire import WireMessage


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with a, b:
        yield a, b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "trainer.sock"


def record(**arrays: bytes) -> ArrayRecord:
    return ArrayRecord({name: Array("float32", (len(data),), stype="x", data=data) for name, data in arrays.items()})


def passed(pair: tuple[socket.socket, socket.socket], parcel: WireMessage) -> WireMessage:
    sender = threading.Thread(target=wire.send, args=(pair[0], parcel))
    sender.start()
    received = wire.receive(pair[1])
    sender.join()
    return received


def raw(pair: tuple[socket.socket, socket.socket], header: object, descriptors: list[int], magic: bytes = b"") -> None:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = wire.PREFIX.pack(magic or wire.MAGIC, len(encoded))
    socket.send_fds(pair[0], [prefix], descriptors)
    pair[0].sendall(encoded)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def test_a_message_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    large = os.urandom(3 << 20)  # more than the socket holds
    config = {"a": 1, "b": 0.1, "inf": math.inf, "flag": True, "text": "ü", "list": [1, 2], "empty": list[int]()}
    content = RecordDict(
        {
            "task": ConfigRecord(config),  # type: ignore[arg-type]
            "tensors": record(large=large, small=b"123", none=b""),
            "inner": record(large=b"another of that name"),
        }
    )
    gc.collect()  # what earlier tests left must not be closed meanwhile
    before = descriptors()
    received = passed(pair, WireMessage("train", content))
    assert received.kind == "train"
    assert received.content == content
    assert {k: type(v) for k, v in received.content.config_records["task"].items()} == {
        k: type(v) for k, v in config.items()
    }
    assert descriptors() == before, "no file stays open"


def test_a_loss_that_is_no_number_stays_none(pair: tuple[socket.socket, socket.socket]) -> None:
    received = passed(pair, WireMessage("result", RecordDict({"r": ConfigRecord({"loss": math.nan})})))
    assert math.isnan(float(str(received.content.config_records["r"]["loss"])))


@given(
    config=st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())),
    arrays=st.dictionaries(st.text(), st.binary(max_size=100), max_size=4),
)
def test_any_message_arrives_as_it_was_sent(config: dict[str, int], arrays: dict[str, bytes]) -> None:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with a, b:
        content = RecordDict({"c": ConfigRecord(config), "a": record(**arrays)})  # type: ignore[arg-type]
        assert passed((a, b), WireMessage("k", content)).content == content


@pytest.mark.parametrize("cut", [0, 7, wire.PREFIX.size, wire.PREFIX.size + 5])
def test_a_message_that_is_cut_off_is_no_message(pair: tuple[socket.socket, socket.socket], cut: int) -> None:
    encoded = json.dumps({"kind": "train", "config": {}, "arrays": {}}).encode()
    pair[0].sendall((wire.PREFIX.pack(wire.MAGIC, len(encoded)) + encoded)[:cut])
    pair[0].close()
    with pytest.raises(ConnectionResetError, match="in the middle"):
        wire.receive(pair[1])


ENTRY = ["w", "float32", [4], "fednano.fp32", 16]


@pytest.mark.parametrize(
    ("header", "content", "says"),
    [
        (b"not json", None, "malformed"),
        ([], None, "malformed"),
        ({"kind": "train", "config": {}}, None, "malformed.*arrays"),
        ({"kind": "train", "config": {"c": {"x": None}}, "arrays": {}}, None, "malformed"),
        ({"kind": "train", "config": {}, "arrays": {"t": [ENTRY]}}, None, "must have 16 bytes, got 0"),
        ({"kind": "train", "config": {}, "arrays": {"t": [ENTRY]}}, bytes(15), "must have 16 bytes, got 15"),
        ({"kind": "train", "config": {}, "arrays": {}}, bytes(15), "must have 0 bytes, got 15"),
        ({"kind": "train", "config": {}, "arrays": {"t": [[*ENTRY[:4], -1]]}}, bytes(15), "malformed"),
        ({"kind": "train", "config": {}, "arrays": {"t": [ENTRY[:3]]}}, bytes(15), "malformed"),
        (b"[" * 100_000, None, "malformed"),
    ],
)
def test_foreign_messages_are_refused(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, header: object, content: bytes | None, says: str
) -> None:
    gc.collect()  # what earlier tests left must not be closed meanwhile
    before = descriptors()
    with (tmp_path / "arrays").open("w+b") as file:
        file.write(content or b"")
        file.flush()
        sender = threading.Thread(target=raw, args=(pair, header, [] if content is None else [file.fileno()]))
        sender.start()
        with pytest.raises(ValueError, match=says):
            wire.receive(pair[1])
        sender.join()
    assert descriptors() == before


def test_another_protocol_and_too_long_headers_are_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    raw(pair, {}, [], magic=b"HTTP/1.1")
    with pytest.raises(ValueError, match="not a message of fednano"):
        wire.receive(pair[1])
    pair[0].sendall(wire.PREFIX.pack(wire.MAGIC, 1 << 40))
    with pytest.raises(ValueError):
        wire.receive(pair[1])


def test_arrays_do_not_come_through_a_pipe(pair: tuple[socket.socket, socket.socket]) -> None:
    end, other = os.pipe()
    raw(pair, {"kind": "train", "config": {}, "arrays": {"t": [ENTRY]}}, [end])
    with pytest.raises(ValueError, match="arrays must come in a regular file"):
        wire.receive(pair[1])
    os.close(end)
    os.close(other)


@pytest.mark.parametrize(
    "content", [{"m": MetricRecord({"x": 1.0})}, {"c": ConfigRecord({"x": b"bytes"})}], ids=["metrics", "bytes"]
)
def test_what_cannot_travel_is_not_sent(
    pair: tuple[socket.socket, socket.socket], content: dict[str, MetricRecord | ConfigRecord]
) -> None:
    with pytest.raises(ValueError, match=r"records|JSON"):
        wire.send(pair[0], WireMessage("train", RecordDict(content)))  # type: ignore[arg-type]


def test_the_folder_keeps_others_out(path: Path) -> None:
    with closing(wire.listen(path)):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.parent.chmod(0o750)
        with pytest.raises(ValueError, match="chmod 700"):
            wire.connect(path)
    with pytest.raises(ValueError, match="chmod 700"):
        wire.listen(path)


def test_a_socket_that_was_left_behind_is_taken_and_one_in_use_is_not(path: Path) -> None:
    with closing(wire.listen(path)), pytest.raises(ValueError, match="another trainer"):
        wire.listen(path)
    assert path.exists()
    wire.listen(path).close()


def test_a_long_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be <= 103 bytes long"):
        wire.listen(tmp_path / ("x" * 104))


# The relay


@pytest.fixture
def ask(path: Path) -> Callable[..., Message]:
    """Give the relay a message; its reply."""
    adopt_identity()
    node: dict[str, bool | float | int | str] = {"name": "site_a", "socket": str(path)}

    def go(kind: str, content: RecordDict) -> Message:
        message = Message(content, 2, kind)
        message.metadata.__dict__["_message_id"] = "1"
        return relay.app(message, Context(1, 2, node, RecordDict(), {}))

    return go


def trainer(path: Path, answer: Callable[[socket.socket, WireMessage], None]) -> threading.Thread:
    """One connection's worth of a trainer."""
    listener = wire.listen(path)

    def serve() -> None:
        with closing(listener), listener.accept()[0] as connection:
            answer(connection, wire.receive(connection))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_task_is_handed_on_and_its_answer_handed_back(path: Path, ask: Callable[..., Message]) -> None:
    content = RecordDict({"task": ConfigRecord({"round": 3}), "tensors": record(w=b"1234")})
    seen = []

    def answer(connection: socket.socket, parcel: WireMessage) -> None:
        seen.append(parcel)
        wire.send(connection, WireMessage(wire.RESULT, parcel.content))

    thread = trainer(path, answer)
    assert ask("train", content).content == content
    thread.join()
    assert [parcel.kind for parcel in seen] == ["train"]


def test_what_the_trainer_refuses_is_an_error_reply(path: Path, ask: Callable[..., Message]) -> None:
    thread = trainer(path, lambda connection, _: wire.send(connection, wire.refusal("lease 7 is lost")))
    reply = ask("train", RecordDict())
    thread.join()
    assert reply.has_error()
    assert reply.error.reason == "lease 7 is lost"


def test_a_trainer_that_dies_or_is_not_there_is_an_error_reply(path: Path, ask: Callable[..., Message]) -> None:
    thread = trainer(path, lambda connection, parcel: None)
    assert "the trainer of site_a failed" in str(ask("train", RecordDict()).error.reason)
    thread.join()
    assert ask("train", RecordDict()).has_error()


def test_a_query_tells_who_the_node_is(path: Path, ask: Callable[..., Message]) -> None:
    def answer(connection: socket.socket, parcel: WireMessage) -> None:
        assert parcel.kind == wire.HELLO
        node = ConfigRecord({"name": "site_a", "incarnation": "f00"})
        wire.send(connection, WireMessage(wire.HELLO, RecordDict({wire.NODE: node})))

    thread = trainer(path, answer)
    assert dict(ask("query", RecordDict()).content.config_records[wire.NODE]) == {
        "name": "site_a",
        "incarnation": "f00",
    }
    thread.join()
    assert ask("query", RecordDict()).content.config_records[wire.NODE]["incarnation"] == ""


def test_a_query_keeps_what_it_tells_of_the_run(path: Path, ask: Callable[..., Message]) -> None:
    wire.listen(path).close()  # makes the folder
    told = RecordDict({relay.RUN: ConfigRecord({"run": "r1", "config": '{"seed": 1}'})})
    assert not ask("query", told).has_error()
    kept = path.parent / relay.TOLD
    assert json.loads(kept.read_text()) == {"run": "r1", "config": '{"seed": 1}'}
    assert kept.stat().st_mode & 0o077 == 0
    written = kept.stat().st_ino
    ask("query", told)
    assert kept.stat().st_ino == written
    told.config_records[relay.RUN]["run"] = "r2"
    ask("query", told)
    assert json.loads(kept.read_text())["run"] == "r2"
    assert {file.name for file in path.parent.iterdir()} == {path.name, relay.TOLD}


def test_the_relay_imports_no_torch() -> None:
    code = "import sys, fednano.flower.relay; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
