"""What is kept up to date as things change, against the same made anew each time."""

import hashlib
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs
from support.event_logs import volatile_run

from fednano.core.clock import VirtualClock
from fednano.core.event_log import EventLog, LogMark, read_log
from fednano.core.events import EVENTS, FORMAT, Event, RoundMerged, finite
from fednano.data.ledger import Position, Span, _Pool, join_spans
from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.model.shapes import blueprint
from fednano.report.history import MAX_LANES, History
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership

POSITIONS = st.tuples(st.integers(0, 12), st.integers(0, 3))


def finished_anew(done: list[tuple[Position, Position]], piece: tuple[Position, Position]) -> tuple[list, int]:
    """All pieces sorted and joined, and the rows of `piece` that were done before."""
    doubled = 0
    for begin, end in done:
        start, stop = max(piece[0], begin), min(piece[1], end)
        if start < stop:
            doubled += stop[0] - start[0] + (stop[1] > 0)
    joined: list[tuple[Position, Position]] = []
    for begin, end in sorted([*done, piece]):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined, doubled


@given(st.lists(st.tuples(POSITIONS, POSITIONS), max_size=20))
def test_pieces_done_are_joined_as_they_come(pieces: list[tuple[Position, Position]]) -> None:
    pool, doubled = _Pool(100), 0
    for piece in pieces:
        start, stop = min(piece), max(piece)
        if start < stop:
            expected, more = finished_anew(pool.done, (start, stop))
            doubled += more
            pool.finish(start, stop)
            assert pool.done == expected
            assert pool.doubled == doubled


@given(st.permutations(range(12)), st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_free_spans_are_joined_as_they_come(order: list[int], tokens: list[int]) -> None:
    pool = _Pool(100)
    given_back = []
    for row in order:
        given_back.append(Span(row, tokens[row], row + 1))
        pool.give_back(given_back[-1])
        assert pool.free == join_spans(given_back)


@given(st.data())
def test_those_who_moved_are_all_whose_presence_changed(data: st.DataObject) -> None:
    def availability() -> Availability:
        edges = sorted(data.draw(st.lists(st.floats(0, 50), min_size=2, max_size=8, unique=True)))
        return Availability(iter([Window(a, b, "drain") for a, b in zip(edges[::2], edges[1::2], strict=False)]))

    names = [f"c{i}" for i in range(data.draw(st.integers(1, 5)))]
    membership = Membership({name: availability() for name in names})
    up: set[str] = set()
    t = 0.0
    for _ in range(12):
        moved = membership.moved(t)
        assert moved == sorted(moved)
        assert {c for c in names if (c in up) != membership.is_up(c, t)} <= set(moved)
        up = {c for c in names if membership.is_up(c, t)}
        assert tuple(sorted(up)) == membership.up(t)
        t += data.draw(st.floats(0.1, 9))


INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    "str": st.text(),
    "int": INTEGERS,
    "float": st.one_of(st.floats(), st.integers(), st.just(-0.0)),
    "float | None": st.none() | st.floats(),
    "int | None": st.none() | INTEGERS,
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.text(), max_size=3).map(tuple),
    "tuple[float, ...]": st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    "tuple[int, ...]": st.lists(INTEGERS, max_size=3).map(tuple),
    "tuple[tuple[int, int, int], ...]": st.lists(st.tuples(*[INTEGERS] * 3), max_size=3).map(tuple),
}


def type_name(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def any_event(kind: type[Event]) -> st.SearchStrategy[Event]:
    values = {field.name: VALUES[type_name(field.type)] for field in structs.fields(kind)}
    if "format" in values:
        values["format"] = st.integers(1, FORMAT)  # a newer log is not read
    return st.builds(kind, **values)


@given(st.lists(st.one_of([any_event(kind) for kind in EVENTS.values()]), max_size=4))
@example(volatile_run(12))
def test_the_lines_of_a_event_log_are_jsons(events: list[Event]) -> None:
    with TemporaryDirectory() as folder:
        event_log = EventLog(Path(folder) / "events.jsonl")
        for event in events:
            event_log.append(event)
        event_log.close()
        lines = (Path(folder) / "events.jsonl").read_bytes().splitlines(keepends=True)
    digest = hashlib.sha256()
    for event, line in zip(events, lines, strict=True):
        record = json.loads(line)
        assert list(record)[:2] == ["event", "t"]
        may_lack = {f.name: f.default for f in structs.fields(event) if not f.required}
        told = {"event": type(event).__name__, **structs.asdict(event)}
        assert json.dumps({**may_lack, **record}, sort_keys=True) == json.dumps(finite(told), sort_keys=True)
        digest.update(re.sub(rb',"wall_[a-z_]+":[^,}]+', b"", line))
    assert event_log.sha256() == digest.hexdigest()


def test_a_event_log_takes_numpys_numbers(tmp_path: Path) -> None:
    merged = next(event for event in volatile_run(2) if isinstance(event, RoundMerged))
    event_log = EventLog(tmp_path / "events.jsonl")
    event_log.append(structs.replace(merged, norm=np.float32(0.5), steps=np.int64(7)))
    event_log.close()
    assert list(read_log(tmp_path / "events.jsonl")) == [structs.replace(merged, norm=0.5, steps=7)]


def test_what_was_flushed_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first, second, *_ = volatile_run(2)
    event_log = EventLog(path)
    event_log.append(first)
    event_log.append(second)  # too soon to be written by itself
    event_log.flush()
    assert list(read_log(path)) == [first, second]
    event_log.close()


def test_what_was_marked_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events: list[Event] = list(volatile_run(2))
    event_log = EventLog(path)
    for event in events:
        event_log.append(event)
    assert event_log.mark() == LogMark(len(events), event_log.sha256())
    assert list(read_log(path)) == events
    event_log.close()


def test_charging_several_times_rounds_as_charging_one_by_one() -> None:
    at_once, one_by_one = VirtualClock(1e6), VirtualClock(1e6)
    at_once.charge(0.1, 1000)
    for _ in range(1000):
        one_by_one.charge(0.1)
    assert at_once.now() == one_by_one.now() != 1e6 + 100.0


def test_only_so_many_clients_have_lanes() -> None:
    clients = tuple(f"site-{i:03d}" for i in range(MAX_LANES + 6))
    history = History()
    for event in volatile_run(6, clients):
        history.add(event)
    history.finish()
    assert list(history.lanes) == list(clients[:MAX_LANES])
    assert len(history.figures.clients) == MAX_LANES + 6


def test_a_blueprint_has_the_shapes_of_the_model() -> None:
    config = GPTConfig.derive(Depth(2, 16), SEED, 300)
    shapes = lambda model: {name: tensor.shape for name, tensor in model.state_dict().items()}  # noqa: E731
    assert shapes(blueprint(config)) == shapes(GPT(config))
    assert {tensor.device for tensor in blueprint(config).state_dict().values()} == {torch.device("meta")}
