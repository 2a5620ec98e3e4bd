"""What every codec promises: sizes, blocks, the same bytes from the same seed, error feedback, refusals."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from support.codecs import CODECS, LOSSY, drawn, floats, state
from support.paths import REPOSITORY

from fednano.codec.base import Blockwise
from fednano.config.build import build_groups
from fednano.core import tensors
from fednano.core.tensors import BLOCK

codecs = pytest.mark.parametrize("name", CODECS)
lossy = pytest.mark.parametrize("name", LOSSY)


def same(a: tensors.State, b: tensors.State) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@codecs
def test_size_is_exact_and_tensors_keep_their_shapes(name: str) -> None:
    codec = CODECS[name]()
    sent = state(1)
    shapes = tensors.shapes(sent)
    data, kept = codec.encode(sent, {}, 0)
    assert type(data) is bytes and len(data) == codec.size(shapes)
    assert kept == {}
    got = codec.decode(data, shapes)
    assert tensors.shapes(got) == shapes
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in got.values())
    assert isinstance(codec, Blockwise)
    assert codec.lossless == (name == "fp32") == same(got, sent)


@codecs
def test_blocks_come_in_order_and_make_up_the_tensors(name: str) -> None:
    codec = CODECS[name]()
    sent = state(2)
    shapes = tensors.shapes(sent)
    data, _ = codec.encode(sent, {}, 0)
    got = codec.decode(memoryview(data), shapes)
    at = dict.fromkeys(shapes, 0)
    order = []
    for block in codec.blocks(data, shapes):
        assert 0 < block.values.numel() <= BLOCK and block.start == at[block.name]
        assert torch.equal(block.values, got[block.name].reshape(-1)[block.start :][: block.values.numel()])
        at[block.name] += block.values.numel()
        order.append(block.name)
    assert at == {name: math.prod(shape) for name, shape in shapes.items()}
    assert list(dict.fromkeys(order)) == [name for name, shape in shapes.items() if math.prod(shape)]


@codecs
def test_a_tensor_does_not_depend_on_its_layout_in_memory(name: str) -> None:
    codec = CODECS[name]()
    turned = drawn(3, 70, 33).t()
    assert codec.encode({"a": turned}, {}, 5)[0] == codec.encode({"a": turned.contiguous()}, {}, 5)[0]


@lossy
def test_bytes_follow_from_the_seed_and_only_stochastic_rounding_from_it(name: str) -> None:
    codec = LOSSY[name]()
    sent = {"a": drawn(4, 1000), "b": drawn(4, 1000)}
    first, again, other = (codec.encode(sent, {}, seed)[0] for seed in (7, 7, 8))
    assert first == again
    assert (first == other) == ("random" not in name)
    # Equal tensors are rounded by different numbers.
    assert (first[: len(first) // 2] == first[len(first) // 2 :]) == ("random" not in name)
    assert codec.encode(sent, {}, 7 + (1 << 64))[0] == first and codec.encode(sent, {}, -1)[0]


@codecs
def test_the_order_of_the_tensors_decides_nothing_but_that_of_their_bytes(name: str) -> None:
    """A resumed run finds its tensors in another order."""
    codec = CODECS[name]()
    sent = {"a": drawn(1, 500), "b": drawn(2, 300), "c": drawn(3, 10)}
    turned = dict(reversed(sent.items()))
    got, other = (codec.decode(codec.encode(each, {}, 3)[0], tensors.shapes(each)) for each in (sent, turned))
    assert all(torch.equal(got[key], other[key]) for key in sent)


@lossy
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_finite_stays_finite(name: str, data: st.DataObject) -> None:
    sent = {"a": data.draw(floats())}
    codec = LOSSY[name]()
    got = codec.decode(codec.encode(sent, {}, 1)[0], {"a": tuple(sent["a"].shape)})
    assert got["a"].isfinite().all()


@codecs
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 300, 4999])
def test_what_is_not_finite_never_becomes_finite(name: str, bad: float, at: int) -> None:
    codec = CODECS[name]()
    sent = {"a": drawn(5, 5000), "b": drawn(6, 100)}
    sent["a"][at] = bad
    got = codec.decode(codec.encode(sent, {}, 1)[0], tensors.shapes(sent))
    assert not got["a"].isfinite().all()
    assert got["b"].isfinite().all()
    assert not math.isfinite(tensors.norm(got))


@lossy
@pytest.mark.parametrize("decay", [1.0, 0.75])
def test_what_is_left_out_joins_the_next_update(name: str, decay: float) -> None:
    """At decay 1, what was decoded and the last residual add up to all updates; below, older residuals count less."""
    codec = LOSSY[name](error_feedback=True, decay=decay)
    kept: tensors.State = {}
    updates = [{"a": drawn(i, 70, 90), "b": drawn(i, 1)[0], "c": torch.zeros(0)} for i in range(6)]
    shapes = tensors.shapes(updates[0])
    expected = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in shapes.items()}
    for seed, update in enumerate(updates):
        before = tensors.clone(kept)
        data, after = codec.encode(update, kept, seed)
        assert same(kept, before) and len(data) == codec.size(shapes)
        assert tensors.shapes(after) == shapes
        got = codec.decode(data, shapes)
        for key in shapes:
            expected[key] = decay * expected[key] + update[key].double() - got[key].double()
            assert torch.allclose(after[key].double(), expected[key], rtol=0, atol=1e-4)
        kept = after
    assert tensors.norm(kept) > 0


@lossy
def test_without_error_feedback_nothing_is_kept(name: str) -> None:
    codec = LOSSY[name]()
    update = {"a": drawn(1, 100)}
    data, kept = codec.encode(update, {"a": drawn(2, 100)}, 0)
    assert kept == {} and data == codec.encode(update, {}, 0)[0]


@lossy
def test_an_update_that_is_not_finite_leaves_the_residual_alone(name: str) -> None:
    codec = LOSSY[name](error_feedback=True)
    update = {"a": drawn(1, 100), "b": drawn(1, 50)}
    _, kept = codec.encode(update, {}, 0)
    broken = {**update, "b": torch.full((50,), math.nan)}
    data, after = codec.encode(broken, kept, 1)
    assert same(after, kept)
    assert not codec.decode(data, tensors.shapes(update))["b"].isfinite().all()


@codecs
@given(data=st.binary(max_size=700), length=st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_are_refused_or_have_the_right_shapes(name: str, data: bytes, length: int) -> None:
    codec = CODECS[name]()
    shapes = {"a": (length,), "b": (3, 2), "c": ()}
    fitting = (data * (codec.size(shapes) // max(len(data), 1) + 1))[: codec.size(shapes)]
    for received in (data, fitting, fitting[:-1], fitting + b"\0"):
        try:
            got = codec.decode(received, shapes)
        except ValueError:
            continue
        assert len(received) == codec.size(shapes)
        assert tensors.shapes(got) == shapes


@codecs
def test_a_wrong_length_is_refused_before_anything_is_allocated(name: str) -> None:
    codec = CODECS[name]()
    shapes = {"a": (1 << 40,)}  # more than any machine has
    with pytest.raises(ValueError, match=rf"must have {codec.size(shapes)} bytes for these shapes, got 100"):
        next(codec.blocks(bytes(100), shapes))


FOLDER = REPOSITORY / "conf" / "codec"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def built(file: str, **keys: object) -> Any:
    """The codec of a file of conf/codec/, with other values for some keys."""
    node = {**OmegaConf.load(FOLDER / f"{file}.yaml"), **keys}
    return build_groups(OmegaConf.create({"codec": node}), ["codec"])["codec"]


def test_every_codec_has_a_file() -> None:
    assert FILES == ["bf16", "fp32", "int2", "int4", "int8", "topk"]
    described = (REPOSITORY / "docs" / "codecs.md").read_text()
    assert all(f"\n| `{file}` |" in described for file in FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_file_builds_a_codec_that_messages_can_name(file: str) -> None:
    codec = built(file)
    assert codec.name == file
    sent = {"a": drawn(1, 9000), "b": drawn(2, 30)}
    got = codec.decode(codec.encode(sent, {}, 0)[0], tensors.shapes(sent))
    assert tensors.norm(tensors.subtract(sent, got)) < 0.9 * tensors.norm(sent)


@pytest.mark.parametrize(
    ("file", "keys", "says"),
    [
        ("bf16", {"decay": 0.5}, r"codec\.decay must be 1 with codec\.error_feedback=false, got 0\.5; set"),
        ("bf16", {"decay": 0.0, "error_feedback": True}, r"codec\.decay must be > 0, got 0\.0; use more"),
        ("topk", {"decay": 1.5}, r"codec\.decay must be <= 1, got 1\.5; use 1 or less"),
        ("topk", {"decay": math.nan}, r"codec\.decay must be a number"),
        ("int8", {"bits": 3}, r"codec\.bits must be .*2.*4.*8.*, got 3"),
        ("int8", {"block": 100}, r"codec\.block must be a power of two from 16 to 32768, got 100; "),
        ("int8", {"block": 65536}, r"codec\.block must be a power of two from 16 to 32768, got 65536; "),
        ("int4", {"levels": "even"}, r"codec\.levels must be .*absmax.*quantile.*, got even"),
        ("int4", {"rounding": "up"}, r"codec\.rounding must be .*nearest.*stochastic.*, got up"),
        (
            "int4",
            {"levels": "quantile", "rounding": "stochastic"},
            r"codec\.rounding must be nearest with codec\.levels=",
        ),
        ("int8", {"levels": "quantile"}, r"codec\.block must be >= 4096 with codec\.levels=quantile and codec\.bits=8"),
        ("topk", {"chunk": 1000}, r"codec\.chunk must be a power of two from 16 to 32768, got 1000; "),
        ("topk", {"k": 0}, r"codec\.k must be >= 1 and <= codec\.chunk=4096, got 0; "),
        ("topk", {"k": 5000}, r"codec\.k must be >= 1 and <= codec\.chunk=4096, got 5000; "),
        ("topk", {"values": "bf16"}, r"codec\.values must be .*fp32.*int2.*, got bf16"),
        ("fp32", {"error_feedback": True}, r"codec\.error_feedback=true sets a key that Fp32 does not have"),
    ],
)
def test_settings_without_sense_are_refused(file: str, keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        built(file, **keys)
