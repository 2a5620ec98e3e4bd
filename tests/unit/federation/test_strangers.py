"""Replies of strangers: whatever a client sends is accepted or refused with an event, and costs little."""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.toy_federation import TOKENS, H, Outcome, federate

from fednano.codec.fp32 import Fp32
from fednano.core.events import CAUSE_CHARS, UpdateFolded, UpdateRefused
from fednano.federation.plan import Given
from fednano.federation.plausible import implausible
from fednano.flower import fields, records
from fednano.flower.packed import DATA, HEADER, STYPES, pack_state
from fednano.training.local import StepsDone
from fednano.training.worker import Result
from fednano.volatility.availability import Window

Tamper = Callable[[RecordDict], RecordDict]
STRINGS = ("client", "token")
WORDS = ("drained", *STRINGS)
LISTS = ("cursor", "left", "ahead")
FLOATS = ("loss", "train_s", "data_s", "busy_from", "busy_until")
INTS = ("round", "version", "lease", "steps", "tokens")
KEYS = (*INTS, *FLOATS, *LISTS, *WORDS)

numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 10, 2**32, 2**62])
floats = st.floats() | st.sampled_from([0.0, 1e308, -1e308, math.inf, -math.inf, math.nan, 1e9])
scalars = numbers | floats | st.booleans() | st.text(max_size=20) | st.binary(max_size=20)
values = scalars | st.one_of(*(st.lists(kind, max_size=7) for kind in (numbers, floats, st.booleans(), st.text())))
jsons = st.recursive(
    st.none() | st.booleans() | numbers | floats | st.text(max_size=5) | st.just("w"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)
headers = (
    st.binary(max_size=40)
    | jsons.map(lambda value: json.dumps(value).encode())
    | jsons.map(lambda value: header(json.dumps(value).encode()))
)


def header(entries: bytes) -> bytes:
    """A header with these entries."""
    return b'{"version":1,"codec":"fp32","tensors":' + entries + b"}"


def answered(tamper: Tamper) -> Outcome:
    """A round of an honest client and one that tampers with its reply; the event log and the ledger are audited."""
    run = federate([[Window(0, math.inf, "drain")]] * 2, tamper=tamper)
    mine = [event for event in run.of(UpdateFolded) + run.of(UpdateRefused) if event.client == "c1"]
    assert len(mine) == 1
    assert len([event for event in run.of(UpdateFolded) if event.client == "c0"]) == 1
    assert math.isfinite(run.federation.state.weights["w"].item())
    for event in run.of(UpdateFolded):
        assert 0 < event.steps <= H
        assert event.tokens == event.steps * TOKENS
        told = [event.busy_from, event.busy_until, event.wall_train_s, event.wall_data_s, *event.ahead]
        assert all(abs(t) < 1000 for t in told)
        assert -0.1 < event.train_loss < 1e39
    for event in run.of(UpdateRefused):
        assert len(event.cause) <= CAUSE_CHARS
        assert event.cause.isprintable()
        msgspec.json.encode(event)
    return run


def refusal(tamper: Tamper) -> tuple[str, str]:
    (event,) = answered(tamper).of(UpdateRefused)
    return event.reason, event.cause


def with_fields(**changed: Any) -> Tamper:
    """Replaces fields of the result."""

    def tamper(content: RecordDict) -> RecordDict:
        content.config_records[records.RESULT].update(changed)
        return content

    return tamper


def with_arrays(head: bytes | None = None, data: bytes | None = None, **described: Any) -> Tamper:
    """Replaces the bytes of the update, or how they are described."""

    def tamper(content: RecordDict) -> RecordDict:
        record = content.array_records[records.TENSORS]
        for key, given_ in ((HEADER, head), (DATA, data)):
            old = record[key]
            held = old.data if given_ is None else given_
            record[key] = Array("uint8", (len(held),), stype=old.stype, data=held)
            vars(record[key]).update(described)
        return content

    return tamper


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3))
@example({"cursor": [0]})
@example({"cursor": [0, 10**15]})
@example({"loss": 1e308})
def test_any_fields_are_accepted_or_refused(changed: dict[str, Any]) -> None:
    answered(with_fields(**changed))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fields_of_the_right_types_are_accepted_or_refused(data: st.DataObject) -> None:
    kinds = {**dict.fromkeys(INTS, st.integers(0, 12)), **dict.fromkeys(FLOATS, floats | st.floats(-100, 100))}
    spans = st.lists(st.integers(-1, 130), max_size=6)
    kinds |= {"cursor": st.lists(st.integers(0, 120), min_size=2, max_size=2), "left": spans}
    kinds |= {"ahead": st.lists(floats | st.floats(-2, 2), max_size=3), "tokens": st.just(TOKENS) | st.integers(0, 500)}
    chosen = data.draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=3))
    answered(with_fields(**{key: data.draw(kinds[key]) for key in chosen}))


@settings(max_examples=60, deadline=None)
@given(headers, st.none() | st.binary(max_size=12))
@example(header(b'[["w", [Infinity]]]'), None)
@example(header(b'[["w", [1e30]]]'), None)
@example(header(b'[["w", [4294967296, 4294967296]]]'), None)
@example(header(b'[["w",[' + b"9" * 5000 + b"]]]"), None)
@example(b"[" * 100_000, None)
def test_any_header_and_data_are_accepted_or_refused(held: bytes, data: bytes | None) -> None:
    answered(with_arrays(held, data))


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": scalars | st.just("float32"),
            "shape": st.lists(numbers, max_size=3).map(tuple) | st.none(),
            "stype": scalars | st.just(STYPES[DATA]) | st.just(STYPES[HEADER]),
        },
    )
)
def test_arrays_described_in_any_way_are_accepted_or_refused(described: dict[str, Any]) -> None:
    answered(with_arrays(**described))


def without(*names: str) -> Tamper:
    return lambda content: RecordDict({name: content[name] for name in content if name not in names})


def also(name: str, record: ArrayRecord | ConfigRecord) -> Tamper:
    return lambda content: RecordDict({**content, name: record})


def cut(key: str) -> Tamper:
    def tamper(content: RecordDict) -> RecordDict:
        del content.config_records[records.RESULT][key]
        return content

    return tamper


def an_array_more(content: RecordDict) -> RecordDict:
    content.array_records[records.TENSORS]["more"] = Array("uint8", (1,), stype="x", data=b"x")
    return content


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (without(records.RESULT), "a message without fednano.result"),
        (without(records.TENSORS), "a message without fednano.core.tensors"),
        (without(records.RESULT, records.TENSORS), "a message without fednano.result"),
        (also(records.TENSORS, ArrayRecord()), "an update must hold 1 tensors, got none"),
        (also(records.RESULT, ArrayRecord()), "a message without fednano.result"),
        (also(records.TENSORS, ConfigRecord()), "a message without fednano.core.tensors"),
        (also("fednano.more", ConfigRecord()), "must not have the records ['fednano.more']"),
        (also(records.INNER, pack_state({"0.0.exp_avg": torch.ones(9)})), "must not have the records"),
        (an_array_more, "got 3 arrays"),
        (with_arrays(stype="fednano.int8"), "array header must be of stype fednano.header, got fednano.int8"),
        (with_arrays(data=b""), "must have 4 bytes for these shapes, got 0"),
        (with_arrays(data=bytes(5)), "must have <= 4 bytes for these shapes, got 5"),
        (cut("token"), "missing required field `token`"),
        (with_fields(more=1), "unknown field `more`"),
        (with_fields(steps=True), "Expected `int`, got `bool`"),
        (with_fields(lease=[1]), "Expected `int`, got `array`"),
        (with_fields(client=b"c1"), "Expected `str`, got `bytes`"),
        (with_fields(client="c" * 300), "Expected `str` of length <= 256"),
        (with_fields(cursor=[0]), "a cursor must be a row and a token, got [0]"),
        (with_fields(ahead=[0.0] * 3), "length <= 2"),
        (with_fields(left=[0, 0]), "three numbers each, got 2 in all"),
    ],
)
def test_malformed_replies_say_what_is_wrong(tamper: Tamper, says: str) -> None:
    reason, cause = refusal(tamper)
    assert reason == "malformed"
    assert says in cause


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"steps": 1, "tokens": TOKENS, "cursor": [200, 0]}, "1 steps train 40 tokens, but there are more rows"),
        ({"busy_from": -1e9}, "its steps took from"),
        ({"busy_from": 5.0, "busy_until": 2.0}, "its steps took from 5 s until 2 s"),
        ({"busy_until": math.nan}, "its steps took from"),
        ({"busy_until": math.inf}, "its steps took from"),
        ({"busy_from": 1000.0, "busy_until": 1001.0}, "its steps ended at 1001 s"),
        ({"ahead": [-1e9, 0.0]}, "its overlapped steps took from"),
        ({"ahead": [-1e9, -1e9]}, "its overlapped steps took from"),
        ({"train_s": 1e308}, "it trained for 1e+308 s"),
        ({"train_s": -1.0}, "it trained for -1 s"),
        ({"data_s": 50.0}, "50 s of them waiting"),
        ({"train_s": math.nan}, "it trained for nan s"),
        ({"loss": 1e308}, "its loss is 1e+308"),
        ({"loss": -1.0}, "its loss is -1"),
    ],
)
def test_figures_that_cannot_be_true_are_implausible(changed: dict[str, Any], says: str) -> None:
    reason, cause = refusal(with_fields(**changed))
    assert reason == "implausible"
    assert says in cause


def test_a_header_longer_than_the_model_needs_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def decode(self, held: bytes) -> None:
            raise AssertionError(f"{len(held)} bytes were parsed")

    monkeypatch.setattr(fields, "_HEADER", Never())
    record = pack_state({"w": torch.ones(3)})
    record[HEADER] = Array("uint8", (900_000,), stype=STYPES[HEADER], data=b"[]," * 300_000)
    content = RecordDict({records.TENSORS: record})
    with pytest.raises(ValueError, match="the header of tensors must have <= "):
        records.unpack_update(content, Fp32(), {"w": (3,)}, {})


def test_more_spans_than_the_lease_has_rows_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the spans were parsed")

    monkeypatch.setattr(msgspec, "convert", never)
    content = RecordDict({records.RESULT: ConfigRecord({"left": [0] * 33})})
    with pytest.raises(ValueError, match="field left of a message must hold <= 10 spans, got 33 numbers"):
        records.unpack_result(content, 10)


@settings(max_examples=80, deadline=None)
@given(headers, st.sampled_from(["update", "inner"]))
@example(header(b'[["w",[3]]]'), "update")
@example(header(b'[["w",[1073741824]]]'), "update")
def test_a_codec_decodes_expected_shapes_only(held: bytes, place: str) -> None:
    seen: list[dict[str, tuple[int, ...]]] = []

    class Spy(Fp32):
        def blocks(self, data: Any, shapes: Any) -> Any:
            seen.append(dict(shapes))
            return super().blocks(data, shapes)

    expected = {"w": (3,)}
    good = pack_state({"w": torch.ones(3)})
    bad = ArrayRecord({**good, HEADER: Array("uint8", (len(held),), STYPES[HEADER], held)})
    both = {records.TENSORS: good, records.INNER: good, (records.TENSORS if place == "update" else records.INNER): bad}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "LOSSLESS", Spy())
        try:
            update, inner = records.unpack_update(RecordDict(both), Spy(), expected, expected)
            assert [*map(len, (update["w"], inner["w"]))] == [3, 3]
        except ValueError:
            assert seen in ([], [expected])
        else:
            assert seen == [expected, expected]


def result(**changed: Any) -> Result:
    done = {"steps": 1, "tokens": 40, "loss": 2.0, "cursor": (1, 0), "drained": False, "train_s": 9.0, "data_s": 1.0}
    times = {"busy_from": 101.0, "busy_until": 110.0, "ahead": ()}
    done |= {key: value for key, value in changed.items() if key in done}
    times |= {key: value for key, value in changed.items() if key in times}
    return Result(task_client="a", round=0, version=0, lease=0, done=StepsDone(**done), **times)


@pytest.mark.parametrize(
    "honest",
    [
        {},
        {"loss": math.nan},  # nothing is trained
        {"loss": -1e-6},  # rounding
        {"busy_from": 95.0, "busy_until": 104.0},  # a live server saw its last heartbeat before the work ended
        {"busy_from": 100.0, "busy_until": 100.0},
        {"train_s": 12.5, "data_s": 12.5},
        {"ahead": (92.0, 100.5)},
        {"ahead": (40.0, 90.0)},
    ],
)
def test_honest_figures_are_plausible(honest: dict[str, Any]) -> None:
    assert implausible(result(**honest), Given(granted=90.0, sent=100.0, wall=5000.0, version=0), 111.0, 5012.0) is None
