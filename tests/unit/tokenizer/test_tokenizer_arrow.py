"""Texts in Arrow arrays: read where they lie, whoever made the arrays."""

import ctypes
import gc
import itertools

import fednano_rustbpe
import numpy as np
import pyarrow as pa
import pytest
from support.tokenizers import trained

from fednano.tokenizer import Tokenizer

KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
ROWS = ["héllo", "", "twelve bytes", "thirteen byte", "a text that is longer than a view", "漢字" * 50, "x"]

BYTES = Tokenizer([])


class Stream:
    """No more than the stream interface."""

    def __init__(self, array):
        self.capsule = array.__arrow_c_stream__()

    def __arrow_c_stream__(self, requested_schema=None):
        return self.capsule


class Single:
    """No more than the array interface."""

    def __init__(self, array):
        self.capsules = array.__arrow_c_array__()

    def __arrow_c_array__(self, requested_schema=None):
        return self.capsules


def texts_of(texts) -> list[bytes]:
    ids, offsets = BYTES.encode_batch(texts)
    return [BYTES.decode_bytes(ids[start:end]) for start, end in itertools.pairwise(offsets)]


def as_bytes(rows) -> list[bytes]:
    return [row.encode() if isinstance(row, str) else row for row in rows]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_and_slice_is_read(kind, monkeypatch):
    array = pa.array(ROWS, kind)
    beside_nulls = pa.array([None, *ROWS, None], kind).slice(1, len(ROWS))
    for batch_bytes in (1, 20, 1 << 24):
        monkeypatch.setattr("fednano.tokenizer.texts.BATCH_BYTES", batch_bytes)
        assert texts_of(beside_nulls) == as_bytes(ROWS)
        assert texts_of(pa.chunked_array([array, array.slice(7), array.slice(2)])) == as_bytes(ROWS + ROWS[2:])
        for start in range(8):
            for length in range(8 - start):
                assert texts_of(array.slice(start, length)) == as_bytes(ROWS[start : start + length])
    for empty in (
        pa.array([], kind),
        pa.chunked_array([], kind),
        array.slice(7),
        pa.array([]),
        pa.array(["", ""], kind),
    ):
        assert texts_of(empty) == [b""] * len(empty)


def test_whatever_speaks_the_interface_is_read():
    array = pa.array(ROWS)
    chunked = pa.chunked_array([array.slice(0, 3), array.slice(3)])
    assert texts_of(Stream(chunked)) == texts_of(Single(array)) == as_bytes(ROWS)
    mixed = ["first", Stream(chunked), b"middle", array, Single(array), "last"]
    assert texts_of(iter(mixed)) == as_bytes(["first", *ROWS, "middle", *ROWS, *ROWS, "last"])
    assert trained(Stream(chunked), 20).sha256 == trained(ROWS, 20).sha256


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nulls_are_refused_where_they_are_in_the_slice(kind):
    for texts, nulls in [
        (pa.array(["a", None, "b", None], kind), 2),
        (pa.array([None, "a", None, "b"], kind).slice(1), 1),
        (pa.array(["a"] * 20 + [None], kind).slice(17), 1),
        (pa.chunked_array([["a"], [None]], kind), 1),
        (pa.nulls(3), 3),
    ]:
        for use in (BYTES.encode_batch, lambda texts: Tokenizer.train(texts, 300)):
            with pytest.raises(ValueError, match=f"texts holds {nulls} nulls; take them out with drop_null"):
                use(texts)


def uncounted(array) -> Single:
    """The array, as from a producer that has not counted its nulls."""
    given = Single(array)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    ctypes.cast(pointer(given.capsules[1], b"arrow_array"), ctypes.POINTER(ctypes.c_int64))[1] = -1
    return given


def test_nulls_are_counted_where_the_producer_has_not():
    array = pa.array([None, *["a"] * 9, None, "b", None])
    for start, stop, nulls in [(0, 13, 3), (1, 13, 2), (10, 12, 1), (2, 11, 1)]:
        with pytest.raises(ValueError, match=f"texts holds {nulls} nulls"):
            BYTES.encode_batch(uncounted(array.slice(start, stop - start)))
    assert texts_of(uncounted(array.slice(1, 9))) == [b"a"] * 9
    assert texts_of(uncounted(pa.array(ROWS))) == as_bytes(ROWS)


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (pa.array([True]), "bool"),
        (pa.array([1], pa.uint16()), "uint16"),
        (pa.array([["a"]]), "list"),
        (pa.array(["a"]).dictionary_encode(), "dictionary"),
        (pa.table({"text": ["a"]}), "struct"),
        (pa.record_batch({"text": ["a"]}), "struct"),
        (pa.array([0], pa.date32()), "tdD"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_types_are_refused(texts, name):
    for given in (texts, ["a", texts]):
        with pytest.raises(ValueError, match=f"texts has the Arrow type {name}; pass strings or binaries"):
            BYTES.encode_batch(given)


def test_what_is_no_text_is_refused():
    for wrong in (1, None, ["a"]):
        with pytest.raises(TypeError, match=r"a text is of the type .*; pass str, bytes or Arrow arrays of them"):
            BYTES.encode_batch(["a", wrong])


def strings(offsets: list[int], data: bytes) -> pa.StringArray:
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(data))


def test_broken_arrays_and_streams_are_refused():
    for offsets in ([0, 9, 3], [0, -1, 3], [2, 1, 3]):
        with pytest.raises(ValueError, match=r"text \d of an Arrow array does not lie inside the array's data; check"):
            BYTES.encode_batch(strings(offsets, b"abc"))
    once = Stream(pa.chunked_array([["a"]]))
    BYTES.encode_batch(once)
    with pytest.raises(ValueError, match=r"was consumed before\); check what made it"):
        BYTES.encode_batch(once)
    once.capsule = pa.array(["a"]).__arrow_c_array__()[0]
    with pytest.raises(ValueError, match="incorrect name"):
        BYTES.encode_batch(once)


class RawStream(ctypes.Structure):
    """The struct of the stream interface, for streams that no library makes."""

    Next = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    Error = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    _fields_ = (("get_schema", Next), ("get_next", Next), ("get_last_error", Error), ("release", Release))
    _fields_ += (("private_data", ctypes.c_void_p),)

    def __arrow_c_stream__(self, requested_schema=None):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(self), NAME, None)


NAME = b"arrow_array_stream"


@pytest.mark.parametrize(
    ("words", "message"), [(b"disk full", "disk full"), (None, "its stream failed with the code 5")]
)
def test_a_failing_stream_is_released_and_gives_its_own_words(words, message):
    text, released = ctypes.create_string_buffer(words or b""), []

    def get_schema(_, place):
        pa.string()._export_to_c(place)
        return 0

    stream = RawStream(
        RawStream.Next(get_schema),
        RawStream.Next(lambda *_: 5),
        RawStream.Error(lambda _: ctypes.addressof(text) if words else None),
        RawStream.Release(released.append),
    )
    with pytest.raises(ValueError, match=rf"\({message}\); check what made it"):
        BYTES.encode_batch(stream)
    gc.collect()
    assert len(released) == 1


def test_rows_are_read_where_they_lie_and_let_go():
    before = pa.total_allocated_bytes()
    data = np.frombuffer(b"abcdef", np.uint8).copy()
    offsets = pa.py_buffer(np.array([0, 4, 6]))
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2, [None, offsets, pa.py_buffer(data)])
    batches = fednano_rustbpe.ArrowBatches(array, 1, 10)
    del array, offsets
    first, second = batches
    assert (first.bytes, second.bytes) == (4, 2)
    del batches, first
    gc.collect()
    data[4] = ord("E")
    ids, lengths = BYTES._core.encode(second, 1)
    assert np.frombuffer(ids, np.uint16).tolist() == [*b"Ef"]
    assert np.frombuffer(lengths, np.int64).tolist() == [2]
    grown = pa.array(["y" * 1000] * 1000)
    texts_of(grown)
    del grown, second
    gc.collect()
    assert pa.total_allocated_bytes() == before


def test_batches_are_bounded_by_bytes_and_by_texts():
    array = pa.array([b"12345"] * 10)
    assert [batch.bytes for batch in fednano_rustbpe.ArrowBatches(array, 12, 99)] == [15, 15, 15, 5]
    assert [batch.bytes for batch in fednano_rustbpe.ArrowBatches(array, 99, 4)] == [20, 20, 10]


def test_one_long_text_is_counted_in_steps_that_may_stop():
    size = 40_000_000
    text = np.frombuffer(b"word " * (size // 5), np.uint8)
    offsets = pa.py_buffer(np.array([0, size]))
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(text)])
    seen = []
    trained(array, 2, progress=lambda *event: seen.append(event))
    assert len(seen) == 3
    assert seen[-1] == ("bytes", size, None)

    def stop(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(array, 2, progress=stop)
