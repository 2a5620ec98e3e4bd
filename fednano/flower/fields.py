"""Typed fields of messages, and the header of tensors: what another process sent is parsed here, with limits."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from flwr.app import ConfigRecord
from msgspec import Meta, Struct

from fednano.core.text import brief
from fednano.data.ledger import Span

F = TypeVar("F", bound=Struct)

MOST_NAME = 256  # characters of a field's name
MOST_SPANS = 1 << 20  # of a task
MOST_FRAGMENTS = 1 << 12
MOST_HEADER = 1 << 24  # bytes, where the names of the tensors are not known beforehand

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Word = Annotated[str, Meta(max_length=256)]
Numbers = Annotated[list[Count], Meta(max_length=3 * MOST_SPANS)]  # row, token and stop of each span
Few = Annotated[list[Count], Meta(max_length=MOST_FRAGMENTS)]
Size = Annotated[int, Meta(ge=0, le=1 << 48)]
Entries = list[tuple[Annotated[str, Meta(max_length=1024)], Annotated[tuple[Size, ...], Meta(max_length=16)]]]

VERSION = 1  # of the header and of the bytes behind it


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands before encoded tensors: the form's version, the codec's name, and [name, shape] of each tensor."""

    version: Count
    codec: Word
    tensors: Entries


_HEADER = msgspec.json.Decoder(Header)


class TaskFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a task; `seconds` may be infinite."""

    client: Word
    round: Count
    version: Count
    lease: Count
    pool: Count
    spans: Numbers
    steps: Count
    tokens_total: Count
    peers: Count
    horizon: Count
    seconds: float
    token: Word
    whole: bool


class AheadFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a lease for overlapped steps."""

    lease: Count
    token: Word
    pool: Count
    spans: Numbers
    steps: Count


class StreamFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a task of one fragment; the lists are of fragments, or of a number for each fragment."""

    due: Count
    sent: Few
    anew: bool
    forgets: bool
    holds: Few
    gets: Few


class ResultFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a result. Any of its times may be NaN or infinite: only the server knows what they can be."""

    client: Word
    round: Count
    version: Count
    lease: Count
    steps: Count
    tokens: Count
    loss: float
    cursor: Annotated[list[Count], Meta(max_length=2)]
    left: Numbers
    drained: bool
    train_s: float
    data_s: float
    busy_from: float
    busy_until: float
    token: Word
    ahead: Annotated[tuple[float, ...], Meta(max_length=2)]
    fragment: Count | None = None


def parsed(record: ConfigRecord, kind: type[F], most_spans: int = MOST_SPANS) -> F:
    """The fields of a record. Raises ValueError for one too many, one too few, or one of a wrong type or size."""
    most = 2 * len(kind.__struct_fields__)  # a few too many are named by the conversion
    if len(record) > most:
        raise ValueError(f"a record must hold the fields of {kind.__name__}, got {len(record)} fields")
    for name in record:
        if len(name) > MOST_NAME:
            raise ValueError(f"the name of a field must have <= {MOST_NAME} characters, got {len(name)}")
    fields: Mapping[str, Any] = dict(record)
    for key in ("spans", "left"):  # the limit of a lease, before anything is made of its items
        if isinstance(value := fields.get(key), list) and len(value) > 3 * most_spans:
            raise ValueError(f"field {key} of a message must hold <= {most_spans} spans, got {len(value)} numbers")
    return msgspec.convert(fields, kind, strict=True)


def spans_of(flat: list[int]) -> tuple[Span, ...]:
    """Spans from the row, the token and the stop of each. Raises ValueError if one is incomplete or empty."""
    if len(flat) % 3:
        raise ValueError(f"spans of a message must hold three numbers each, got {len(flat)} in all")
    spans = tuple(Span(*flat[i : i + 3]) for i in range(0, len(flat), 3))
    if empty := next((span for span in spans if span.rows < 1), None):
        raise ValueError(f"spans of a message must hold rows, got {tuple(empty)}")
    return spans


def header_bytes(codec: str, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The header of tensors with these names and shapes, as JSON."""
    entries = [(name, tuple(shape)) for name, shape in shapes.items()]
    return msgspec.json.encode(Header(version=VERSION, codec=codec, tensors=entries))


def shapes_of(header: bytes, codec: str, most: int = MOST_HEADER) -> dict[str, tuple[int, ...]]:
    """The names and shapes in a header of at most `most` bytes; a longer one is not parsed.

    Raises ValueError if the tensors are encoded by another codec or version.
    """
    if len(header) > most:
        raise ValueError(f"the header of tensors must have <= {most} bytes, got {len(header)}")
    try:
        read = _HEADER.decode(header)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"the header of tensors cannot be read ({error})") from error
    if (read.version, read.codec) != (VERSION, codec):
        raise ValueError(
            f"tensors must be encoded by codec={codec} in version {VERSION}, got {brief(read.codec)} in version "
            f"{read.version}"
        )
    shapes = dict(read.tensors)
    if len(shapes) < len(read.tensors):
        raise ValueError("the header names a tensor twice")
    return shapes
