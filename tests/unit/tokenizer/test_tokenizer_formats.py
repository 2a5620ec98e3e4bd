"""Vocabularies in the formats of tiktoken and tokenizers: equal ids both ways, and no ranks that are no BPE."""

import json
import pickle
import random

import numpy as np
import pytest
import tiktoken
import tokenizers
from support.tokenizers import ADVERSARIAL, real_text, trained

from fednano.tokenizer import Tokenizer

# tiktoken's vocabularies begin with the visible characters.
VISIBLE_FIRST = bytes(sorted(range(256), key=lambda byte: (not (0x21 <= byte < 0x7F or 0xA0 < byte != 0xAD), byte)))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained(real_text(), 1200)


@pytest.fixture(scope="module", params=[VISIBLE_FIRST, bytes(reversed(range(256)))], ids=["visible first", "reversed"])
def reordered(tokenizer, request) -> Tokenizer:
    """The same merges, with other ids for the bytes."""
    ids = np.concatenate([np.argsort(np.frombuffer(request.param, np.uint8)), np.arange(256, 1456)])
    return Tokenizer(ids[tokenizer.merges], byte_order=request.param, meta={"made": "by hand"})


def encoding(ranks, specials, pattern) -> tiktoken.Encoding:
    return tiktoken.Encoding("peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)


def test_ranks_of_a_tokenizer_give_it_back(tokenizer, reordered):
    for one in (tokenizer, reordered, trained(["ab"], 1, special_tokens=("<|z|>", "<|bos|>", "<|a|>"))):
        ranks, specials, _ = one.to_tiktoken()
        shuffled = random.Random(0).sample(sorted(ranks.items()), len(ranks))
        again = Tokenizer.from_tiktoken(dict(shuffled), one.pattern, dict(reversed(specials.items())))
        assert again.sha256 == one.sha256
        assert (again.byte_order, again.special_tokens) == (one.byte_order, one.special_tokens)
        assert again.merges.tolist() == one.merges.tolist()


def test_an_order_of_bytes_gives_the_ids_of_tiktoken(tokenizer, reordered):
    peer = encoding(*reordered.to_tiktoken())
    for text in [*real_text(12), *ADVERSARIAL]:
        ids = reordered.encode(text, "all").tolist()
        assert ids == peer.encode(text, allowed_special="all")
        assert reordered.decode(ids) == text
    assert reordered.encode(bytes(range(256)) * 3).tolist() != tokenizer.encode(bytes(range(256)) * 3).tolist()
    assert reordered.decode_bytes(reordered.encode(bytes(range(256)) * 3)) == bytes(range(256)) * 3


def test_files_and_digests_hold_the_order_of_bytes(tokenizer, reordered, tmp_path):
    reordered.save(tmp_path / "bpe.json")
    for other in (Tokenizer.load(tmp_path / "bpe.json"), pickle.loads(pickle.dumps(reordered))):
        assert (other.byte_order, other.sha256, other.meta) == (reordered.byte_order, reordered.sha256, reordered.meta)
        assert other.encode("The file's text").tolist() == reordered.encode("The file's text").tolist()
    assert reordered.sha256 != Tokenizer(reordered.merges).sha256
    tokenizer.save(tmp_path / "identity.json")
    assert "byte_order" not in json.loads((tmp_path / "identity.json").read_bytes())


@pytest.mark.parametrize("order", [range(255), [0] * 256, [*range(255), 256], 256, bytes(257)])
def test_an_order_that_lacks_bytes_is_refused(order):
    with pytest.raises((ValueError, TypeError), match=r"each of the 256 bytes once|range\(0, 256\)|not iterable"):
        Tokenizer([], byte_order=order)


SINGLE = {bytes([byte]): byte for byte in range(256)}
LATE = {token: rank for token, rank in SINGLE.items() if token != b"a"} | {b"xy": 97}


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({}, r"ranks must have b'\\x00' among its first 256; begin with the single bytes"),
        (LATE, r"ranks must have b'a' among"),
        ({**LATE, b"a": 256}, r"ranks must have b'a' among"),
        ({**SINGLE, b"ab": 257}, r"the rank of b'ab' in ranks must be 256, got 257; number all from 0 on"),
        ({**SINGLE, b"ab": 256, b"cd": 256}, r"the rank of b'cd' in ranks must be 257, got 256"),
        ({**SINGLE, b"abc": 256}, r"ranks holds b'abc' at 256, which lower ranks merge into 3 tokens instead of 2"),
        ({**SINGLE, b"ab": 256, b"cd": 257, b"abcde": 258}, r"b'abcde' at 258, which lower ranks merge into 3 tokens"),
        ({**SINGLE, b"": 256}, r"ranks holds b'' at 256, which lower ranks merge into 0 tokens"),
        # Joined later than the token that it would be a part of.
        ({**SINGLE, b"bcd": 256, b"bc": 257}, r"ranks holds b'bcd' at 256, which lower ranks merge into 3 tokens"),
    ],
)
def test_ranks_that_are_no_bpe_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_tiktoken(ranks, "gpt4", {})


def test_specials_must_follow_the_ranks():
    ranks = {**SINGLE, b"ab": 256}
    made = Tokenizer.from_tiktoken(ranks, "gpt4", {"<|b|>": 258, "<|a|>": 257})
    assert made.encode("ab<|a|><|b|>", "all").tolist() == [256, 257, 258]
    for specials, message in [
        ({"<|a|>": 258}, r"the id of '<\|a\|>' in special_tokens must be 257, got 258; number them from 257 on"),
        ({"<|a|>": 257, "<|b|>": 259}, r"the id of '<\|b\|>' in special_tokens must be 258, got 259"),
        ({"<|a|>": 256}, r"the id of '<\|a\|>' in special_tokens must be 257, got 256"),
    ]:
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_tiktoken(ranks, "gpt4", specials)
    with pytest.raises(ValueError, match=r'tokenizer.pattern="gpt5" is not known'):
        Tokenizer.from_tiktoken(ranks, "gpt5", {})


def loaded(tokenizer: Tokenizer, folder) -> tokenizers.Tokenizer:
    tokenizer.to_huggingface(folder / "new" / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(folder / "new" / "tokenizer.json"))


def test_tokenizers_gives_equal_ids(tokenizer, reordered, tmp_path):
    for one in (tokenizer, reordered):
        peer = loaded(one, tmp_path)
        assert peer.get_vocab_size() == one.vocab_size
        assert {name: peer.token_to_id(name) for name in one.special_tokens} == {
            name: one.id_of(name) for name in one.special_tokens
        }
        for text in [*real_text(12), *ADVERSARIAL]:
            ids = peer.encode(text).ids
            assert ids == one.encode(text, "all").tolist()
            assert peer.decode(ids, skip_special_tokens=False) == text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tokenizer.json"]


def test_what_other_formats_cannot_hold_is_refused(tmp_path):
    # "abc" as (ab, c) and as (a, bc).
    twice = Tokenizer([[97, 98], [98, 99], [97, 257], [256, 99]])
    for write in (twice.to_tiktoken, lambda: twice.to_huggingface(tmp_path / "tokenizer.json")):
        with pytest.raises(ValueError, match="the ids 258 and 259 both stand for b'abc'"):
            write()
    named = Tokenizer([[97, 98]], special_tokens=["ab"])
    with pytest.raises(ValueError, match=r"the special token 'ab' is also how tokenizer\.json writes the token 256"):
        named.to_huggingface(tmp_path / "tokenizer.json")
    assert not list(tmp_path.iterdir())
