"""Tensors in Flower's records: one versioned header and raw bytes."""

from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from flwr.app import Array, ArrayRecord, RecordDict
from torch import Tensor

from fednano.codec.base import Blockwise, Codec
from fednano.codec.fp32 import Fp32
from fednano.core import tensors
from fednano.core.tensors import Lazy, Shapes, State, TensorBlock
from fednano.core.text import brief
from fednano.flower import fields

HEADER, DATA = "header", "data"
STYPES = {HEADER: "fednano.header", DATA: "fednano.data"}
MOST_RECORDS = 8  # of a message; more are not looked at
LOSSLESS = Fp32()


def pack_state(state: State) -> ArrayRecord:
    """Pack an optimizer's state without loss: nothing would make up for what a lossy codec drops."""
    return pack(state, LOSSLESS, {}, 0)[0]


def unpack_state(record: ArrayRecord) -> State:
    """The inverse of `pack_state`. Raises ValueError for a wrong header or length."""
    return dict(unpack(record, LOSSLESS, None))


def pack(state: State, codec: Codec, kept: State, seed: int) -> tuple[ArrayRecord, State]:
    """All tensors in one array behind a header, and the codec state that replaces `kept`.

    It is one array because Flower sends each array by separate requests. Raises TypeError or ValueError if the codec
    does not keep its promises.
    """
    if not state:
        return ArrayRecord(), kept
    data, kept = _encoded(state, codec, kept, seed)
    header = fields.header_bytes(codec.name, tensors.shapes(state))
    return ArrayRecord({HEADER: _array(HEADER, header), DATA: _array(DATA, data)}), kept


def _encoded(state: State, codec: Codec, kept: State, seed: int) -> tuple[bytes, State]:
    data, kept = codec.encode(state, kept, seed)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f"encode of codec={codec.name} must return bytes, got {type(data).__name__}; correct its method"
        )
    most = codec.size(tensors.shapes(state))
    if len(data) > most:
        raise ValueError(
            f"encode of codec={codec.name} must return at most size()={most} bytes, got {len(data)}; correct one"
        )
    return bytes(data), kept


def _array(key: str, data: bytes) -> Array:
    return Array("uint8", (len(data),), stype=STYPES[key], data=data)


def unpack(record: ArrayRecord, codec: Codec, expected: Shapes | None) -> Mapping[str, Tensor]:
    """The inverse of `pack`; a `Blockwise` codec decodes when the tensors are asked for.

    Raises ValueError, now or while decoding, for another codec's arrays, or a wrong header, length or content. Nothing
    is parsed or allocated that is larger than the `expected` tensors need, if these are known.
    """
    if not record:
        if expected:
            raise ValueError(f"an update must hold {len(expected)} tensors, got none")
        return {}
    if len(record) > 2:
        raise ValueError(f"tensors must come in the arrays {HEADER} and {DATA}, got {len(record)} arrays")
    shapes = _shapes(_bytes_in(record, HEADER), codec, expected)
    data = _bytes_in(record, DATA)
    if len(data) > (most := codec.size(shapes)):
        raise ValueError(f"codec={codec.name} must have <= {most} bytes for these shapes, got {len(data)}")
    view = memoryview(data)
    if isinstance(codec, Blockwise):
        return Lazy(shapes, lambda: _blocks(codec, view, shapes))
    return _decoded(codec, view, shapes)


def _shapes(header: bytes, codec: Codec, expected: Shapes | None) -> Shapes:
    """The shapes in a header, in its order; it must name this codec, and tensors as `expected`."""
    if expected is None:
        return fields.shapes_of(header, codec.name)
    usual = fields.header_bytes(codec.name, expected)
    if header == usual:
        return expected
    shapes = fields.shapes_of(header, codec.name, 2 * len(usual))  # it may be spaced out
    if shapes != expected:
        raise ValueError("an update has other tensors than the global model")
    return shapes


def _blocks(codec: Codec, data: memoryview, shapes: Shapes) -> Iterator[TensorBlock]:
    """The blocks of untrusted bytes, checked. Raises ValueError."""
    assert isinstance(codec, Blockwise)
    try:
        yield from _checked(codec.blocks(data, shapes), codec.name, shapes)
    except Exception as error:  # bytes from a stranger may make a codec raise anything
        raise ValueError(f"codec={codec.name} cannot decode these tensors: {error}") from error


def _checked(blocks: Iterator[TensorBlock], codec: str, shapes: Shapes) -> Iterator[TensorBlock]:
    """The blocks as they are. Raises ValueError unless they make up float32 tensors of these shapes."""
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    left = iter([*sizes.items(), (None, 0)])
    (name, count), at = next(left), 0
    for block in blocks:
        while at == count and name is not None:
            (name, count), at = next(left), 0
        here = block.values.numel()
        if (block.name, block.start) != (name, at) or at + here > count:
            raise ValueError(f"codec={codec} must decode to the tensors in the header, without gaps")
        if block.values.dtype != torch.float32:
            raise ValueError(f"codec={codec} must decode to float32, got {block.values.dtype}")
        at += here
        yield block
    if at < count or any(left_over for _, left_over in left):
        raise ValueError(f"codec={codec} must decode to the tensors in the header, without gaps")


def _decoded(codec: Codec, data: memoryview, shapes: Shapes) -> State:
    """The tensors of untrusted bytes, for a codec that makes them all at once. Raises ValueError."""
    try:
        state = codec.decode(data, shapes)
    except Exception as error:  # as above
        raise ValueError(f"codec={codec.name} cannot decode these tensors: {error}") from error
    if tensors.shapes(state) != shapes:
        raise ValueError(f"codec={codec.name} decoded other tensors than those in the header")
    if other := next((tensor.dtype for tensor in state.values() if tensor.dtype != torch.float32), None):
        raise ValueError(f"codec={codec.name} must decode to float32, got {other}")
    return state


def _bytes_in(record: ArrayRecord, key: str) -> bytes:
    """The bytes of one array, which must be described as such. Raises ValueError if it is missing or something else."""
    if key not in record:
        raise ValueError(f"tensors without {key}")
    array = record[key]
    if array.stype != STYPES[key]:
        raise ValueError(f"array {key} must be of stype {STYPES[key]}, got {brief(array.stype)}")
    if not isinstance(array.data, bytes) or (array.dtype, array.shape) != ("uint8", (len(array.data),)):
        held = f"{brief(array.dtype)} of shape {brief(array.shape)}"
        raise ValueError(f"array {key} must hold bytes as uint8, got {held}")
    return array.data


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the encoded tensors in a message."""
    few = islice(content.values(), MOST_RECORDS)
    return sum(len(record[DATA].data) for record in few if isinstance(record, ArrayRecord) and DATA in record)
