"""The tokenizer against a slow, obvious one, against tiktoken, and against damaged input."""

import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import count, pairwise

import fednano_rustbpe
import numpy as np
import pyarrow as pa
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from support.paths import REPOSITORY
from support.tokenizers import ADVERSARIAL, real_text, trained

from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer
from fednano.tokenizer.formats import write_own
from fednano.tokenizer.train import BpeTrainer

CONF = REPOSITORY / "conf" / "tokenizer"


def joined(word: tuple[int, ...], pair: tuple[int, int], new: int) -> tuple[int, ...]:
    out: list[int] = []
    at = 0
    while at < len(word):
        here = word[at : at + 2] == pair
        out.append(new if here else word[at])
        at += 2 if here else 1
    return tuple(out)


def byte_order(ties: str) -> list[int]:
    """What compares for each byte: itself, or the code point of its character in `tokenizers`' ByteLevel."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    above = count(256)
    return [byte if ties == "bytes" or byte in shown else next(above) for byte in range(256)]


def slow_merges(texts, merges_wanted: int, ties: str = "bytes") -> list[list[int]]:
    """Counts all pairs anew for each merge."""
    # Merged tokens come after all bytes, whose characters end at 323.
    order = byte_order(ties) + list(range(1000, 1000 + merges_wanted))
    words = Counter(tuple(word) for text in texts for word in fednano_rustbpe.split("gpt4", text))
    merges: list[list[int]] = []
    while len(merges) < merges_wanted:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], order[pair[0]], order[pair[1]]))
        words = Counter({joined(word, best, 256 + len(merges)): times for word, times in words.items()})
        merges.append(list(best))
    return merges


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained(real_text(), 1500)


@pytest.fixture(scope="module")
def peer(tokenizer):
    ranks, specials, pattern = tokenizer.to_tiktoken()
    return tiktoken.Encoding("peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)


# Training


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("aab bé\n'1~\x7f\xad"), min_size=1, max_size=60), min_size=1, max_size=6),
    st.sampled_from(["bytes", "huggingface"]),
)
def test_merges_equal_the_slow_ones(texts, ties):
    assert trained(texts, 40, ties=ties).merges.tolist() == slow_merges(texts, 40, ties)


@pytest.mark.parametrize("ties", ["bytes", "huggingface"])
def test_merges_of_real_text_equal_the_slow_ones(ties):
    texts = real_text(6)
    assert trained(texts, 60, ties=ties).merges.tolist() == slow_merges(texts, 60, ties)


def test_the_rules_of_ties_differ_and_others_are_refused():
    assert trained([" a", "ab"], 1).merges.tolist() == [[0x20, 0x61]]
    assert trained([" a", "ab"], 1, ties="huggingface").merges.tolist() == [[0x61, 0x62]]
    with pytest.raises(ValueError, match=r"tokenizer\.ties must be one of bytes, huggingface, got age; choose"):
        trained(["ab"], 1, ties="age")


def test_neither_threads_nor_batches_nor_order_nor_kind_of_texts_matter(monkeypatch):
    texts = real_text()
    reference = trained(texts, 800, threads=1)
    same = [
        trained(reversed(texts), 800, threads=3),
        trained((text.encode() for text in texts), 800),
        trained(pa.array(texts), 800),
        trained(pa.chunked_array([texts[:7], texts[7:]], pa.large_string()), 800),
        trained(pa.array(["unseen", *texts], pa.string_view()).slice(1), 800),
    ]
    monkeypatch.setattr("fednano.tokenizer.texts.BATCH_BYTES", 1000)
    same += [trained(texts, 800), trained(pa.array(texts), 800)]
    assert {other.sha256 for other in same} == {reference.sha256}


def test_ids_are_bytes_then_merges_then_specials(tokenizer):
    assert [tokenizer.token_bytes(at) for at in range(256)] == [bytes([at]) for at in range(256)]
    left, right = tokenizer.merges[700].tolist()
    assert tokenizer.token_bytes(256 + 700) == tokenizer.token_bytes(left) + tokenizer.token_bytes(right)
    assert tokenizer.bos_id == tokenizer.id_of("<|bos|>") == 256 + 1500
    assert tokenizer.vocab_size == 256 + 1500 + len(SPECIAL_TOKENS)


def test_a_small_corpus_trains_what_it_can_and_warns():
    with pytest.warns(UserWarning, match=r"vocab_size=4096 is not reached: .* vocabulary of only 263; train on more"):
        small = Tokenizer.train(["abc"], 4096)
    assert small.merges.tolist() == [[97, 98], [256, 99]]


def test_progress_sees_both_stages_and_may_stop():
    seen = []
    trained(real_text(5), 600, progress=lambda *event: seen.append(event))
    assert seen[0][0] == "bytes"
    assert ("merges", 512, 600) in seen
    with pytest.raises(KeyboardInterrupt):
        trained(real_text(5), 600, progress=interrupt)


def interrupt(stage: str, _done: int, _total: int | None) -> None:
    if stage == "merges":
        raise KeyboardInterrupt


# Encoding and decoding


def test_ids_equal_tiktoken(tokenizer, peer):
    for text in [*real_text(60), *ADVERSARIAL]:
        assert tokenizer.encode(text).tolist() == peer.encode(text, disallowed_special=())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_every_text_equals_tiktoken_and_comes_back(tokenizer, peer, text):
    ids = tokenizer.encode(text)
    assert ids.tolist() == peer.encode(text, disallowed_special=())
    assert tokenizer.decode(ids) == text


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_all_bytes_come_back(tokenizer, data):
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


@pytest.mark.parametrize("text", ["a\ud800b", "\ude00\ud83d", "\ud83d\ude00", "x" * 100 + "\udfff"])
def test_lone_surrogates_are_replaced_as_in_tiktoken(tokenizer, peer, text):
    expected = peer.encode(text)
    assert tokenizer.encode(text).tolist() == expected
    assert tokenizer.encode_batch(["a", text])[0].tolist() == [97, *expected]
    assert tokenizer.encode(text, {"<|bos|>"}).tolist() == expected


def test_specials_are_only_recognised_where_asked_for(tokenizer, peer):
    text = "<|bos|>hi<|user_start|> <|user_start|><|bos|><|bos"
    for allowed in [(), {"<|bos|>"}, {"<|user_start|>", "<|bos|>"}, "all"]:
        expected = peer.encode(text, allowed_special=allowed or set(), disallowed_special=())
        assert tokenizer.encode(text, allowed).tolist() == expected
        assert tokenizer.encode(text.encode(), allowed).tolist() == expected
    assert tokenizer.bos_id not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text, "all")) == text
    with pytest.raises(ValueError, match=r"'<\|pad\|>' is not a special token .*; use one of <\|bos\|>, "):
        tokenizer.encode(text, ["<|pad|>"])


def test_of_two_specials_the_longer_counts():
    overlapping = trained(["ab"], 1, special_tokens=("<|bos|>", "<|bos|>x"))
    assert overlapping.encode("<|bos|>x<|bos|>", "all").tolist() == [258, 257]


def test_batches_equal_single_texts(tokenizer, monkeypatch):
    texts = [*real_text(20), *ADVERSARIAL, "".join(real_text())]
    expected = [tokenizer.encode(text).tolist() for text in texts]
    monkeypatch.setattr("fednano.tokenizer.texts.BATCH_BYTES", 50_000)
    for batch in (texts, iter([text.encode() for text in texts]), pa.chunked_array([texts[:9], texts[9:]])):
        for threads in (1, 2, 5):
            ids, offsets = tokenizer.encode_batch(batch if threads == 1 else texts, threads)
            assert (ids.dtype, offsets.dtype) == (np.uint16, np.int64)
            assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == expected


def test_an_empty_batch_has_one_offset(tokenizer):
    for empty in ([], pa.array([], pa.string())):
        ids, offsets = tokenizer.encode_batch(empty)
        assert (ids.dtype, ids.tolist(), offsets.tolist()) == (np.uint16, [], [0])
    assert tokenizer.decode([]) == ""


def test_ids_are_32_bits_wide_above_65536():
    pairs = [[left, right] for left in range(256) for right in range(256)]
    at_limit = 65536 - 256 - len(SPECIAL_TOKENS)
    narrow, wide = Tokenizer(pairs[:at_limit]), Tokenizer(pairs[: at_limit + 1])
    assert (narrow.vocab_size, narrow.encode("a").dtype) == (65536, np.uint16)
    assert (wide.vocab_size, wide.encode("a").dtype) == (65537, np.uint32)
    assert wide.encode("<|assistant_end|>", "all").tolist() == [65536]
    assert wide.decode_bytes(wide.encode_batch([bytes(range(256))])[0]) == bytes(range(256))


def test_ids_are_written_into_a_given_row(tokenizer, monkeypatch):
    texts = [*real_text(5), *ADVERSARIAL]
    monkeypatch.setattr("fednano.tokenizer.texts.BATCH_BYTES", 20_000)
    for text in ("", texts[0], texts[0].encode(), "a\ud800", texts, pa.array(texts), []):
        expected = tokenizer.encode_batch([text] if isinstance(text, str | bytes) else text)[0]
        for room in (len(expected), len(expected) + 7):
            buffer = np.full(room, 9, tokenizer.dtype)
            assert tokenizer.encode_into(text, buffer, threads=2) == len(expected)
            assert buffer.tolist() == expected.tolist() + [9] * (room - len(expected))
        if len(expected):
            small = np.empty(len(expected) - 1, tokenizer.dtype)
            with pytest.raises(ValueError, match=rf"room for {len(expected)} ids, got {len(small)}; pass"):
                tokenizer.encode_into(text, small)


def test_senseless_buffers_are_refused(tokenizer):
    fixed = np.empty(9, np.uint16)
    fixed.setflags(write=False)
    for buffer, message in [
        ([0] * 9, r"buffer must be a NumPy array, got a list; pass such as np\.empty\(n, np\.uint16\)"),
        (np.empty(9, np.uint32), "must be one row of uint16, .* type uint32; pass"),
        (np.empty(9, ">u2"), "must be one row of uint16, .* type >u2; pass"),
        (np.empty((3, 3), np.uint16), r"shape \(3, 3\)"),
        (np.empty(18, np.uint16)[::2], "must be writable and contiguous"),
        (fixed, "must be writable and contiguous"),
    ]:
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_into("abc", buffer)


def test_token_lengths_add_up_to_the_bytes(tokenizer):
    lengths = tokenizer.token_lengths()
    text = "".join(real_text(10))
    assert lengths.shape == (tokenizer.vocab_size,)
    assert lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert lengths[[tokenizer.id_of(special) for special in SPECIAL_TOKENS]].tolist() == [0] * len(SPECIAL_TOKENS)


def test_long_pretokens_take_no_quadratic_time(tokenizer):
    # Quadratic merging would take hours.
    for data in (b"a" * 1_000_000, b" " * 1_000_000, b"etaoin" * 200_000):
        assert tokenizer.decode_bytes(tokenizer.encode(data)) == data
    assert len(trained([b"a" * 1_000_000, b"ab" * 500_000], 100).merges) > 30


def test_decode_takes_any_row_of_ids_and_refuses_others(tokenizer):
    assert tokenizer.decode([104, 105]) == tokenizer.decode(np.array([104, 105], np.int64)) == "hi"
    assert tokenizer.decode(np.array([104, 0, 105], np.uint16)[::2]) == "hi"
    assert tokenizer.decode([0xC3]) == "\ufffd"
    for wrong in ([1761], [-1], [2**40], np.array([1761], np.uint16), np.array([-1], np.int8)):
        with pytest.raises(ValueError, match="outside the vocabulary of 1761"):
            tokenizer.decode(wrong)
    for wrong in ([[1]], [1.0], ["a"]):
        with pytest.raises(ValueError, match="ids must be one row of whole numbers, got shape"):
            tokenizer.decode(wrong)


# Files


def test_a_file_keeps_everything(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new" / "bpe.json")
    loaded = Tokenizer.load(tmp_path / "new" / "bpe.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bpe.json"]
    for other in (loaded, pickle.loads(pickle.dumps(tokenizer))):
        assert (other.sha256, other.meta) == (tokenizer.sha256, tokenizer.meta)
        assert other.encode("The file's text").tolist() == tokenizer.encode("The file's text").tolist()


def damage(content: bytes) -> dict[str, bytes]:
    changed = json.loads(content)
    changed["merges"] = changed["merges"].replace("32", "33", 1)
    return {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "flipped": content.replace(b"<|bos|>", b"<|bot|>"),
        "merges changed": json.dumps(changed, separators=(",", ":")).encode(),
        "longer": content + b"\n",
        "not text": b"\xff\xfe\x00",
        "another list": b"[1, 2]",
        "another object": b"{}",
        "another version": content.replace(b'"version":2', b'"version":1'),
    }


def test_a_damaged_file_is_refused_by_name(tokenizer, tmp_path):
    path = tmp_path / "bpe.json"
    tokenizer.save(path)
    for kind, content in damage(path.read_bytes()).items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bpe\.json is not an intact .*; delete it and train again"):
            pytest.fail(f"{kind}: {Tokenizer.load(path)}")


def test_an_intact_file_of_senseless_merges_is_refused(tmp_path):
    path = tmp_path / "bpe.json"
    for merges in ([[97, 256]], [97], ["a"]):
        write_own(path, {"pattern": "gpt4", "special_tokens": [], "merges": merges}, {})
        with pytest.raises(ValueError, match=r"bpe\.json is not an intact .*; delete it and train again"):
            Tokenizer.load(path)


def test_a_failed_save_leaves_the_old_file(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "bpe.json"
    tokenizer.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        tokenizer.save(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


# Settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 100}, r"vocab_size must be >= 261, for 256 bytes \+ 5 special tokens, got 100; use"),
        ({"vocab_size": 4096.0}, r"vocab_size must be a whole number, got 4096.0"),
        ({"vocab_size": 1 << 40}, r"vocab_size must be <= 2097152, got"),
        ({"pattern": "gpt5"}, r'tokenizer.pattern="gpt5" is not known; use one of: gpt4, cl100k, gpt2'),
        ({"special_tokens": ("<|x|>",)}, r"special_tokens must hold <\|bos\|>, .*, got \['<\|x\|>'\]; add it"),
        ({"special_tokens": ("<|bos|>", "<|bos|>")}, r"must hold each token once, got '<\|bos\|>' twice"),
        ({"special_tokens": ("<|bos|>", "")}, r"special_tokens must hold non-empty strings, got ''"),
        ({"special_tokens": "<|bos|>"}, r"special_tokens must be a list of strings, got"),
    ],
)
def test_senseless_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BpeTrainer(**{"vocab_size": 4096, **options})
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(["abc"], **{"vocab_size": 4096, **options})


@pytest.mark.parametrize("empty", [[], [""], ["", b""], pa.array([], pa.string()), pa.array([""])])
def test_an_empty_corpus_is_refused(empty):
    with pytest.raises(ValueError, match="the corpus holds no text"):
        Tokenizer.train(empty, 300)


def test_senseless_texts_are_refused(tokenizer):
    for texts, message in [
        ("abc", "texts must be a list of texts, got one str; pass"),
        (pa.array(["a", None]), "texts holds 1 nulls; take them out"),
        (pa.array([1, 2]), "texts has the Arrow type int64; pass strings"),
    ]:
        for use in (lambda texts: Tokenizer.train(texts, 300), tokenizer.encode_batch):
            with pytest.raises(ValueError, match=message):
                use(texts)
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        tokenizer.encode_batch(["a"], threads=0)
    with pytest.raises(TypeError, match=r"a text is of the type .*int.*; pass str or bytes"):
        tokenizer.encode(1)
    with pytest.raises(ValueError, match="merge 0 joins the ids 97 and 256, which do not exist yet"):
        Tokenizer([[97, 256]])


def test_ensure_trains_once_for_each_corpus_and_setting(tmp_path):
    calls = []

    def texts():
        calls.append(1)
        return real_text(3)

    trainer = BpeTrainer(vocab_size=300)
    first = trainer.ensure(tmp_path, "a" * 64, texts)
    assert trainer.ensure(tmp_path, "a" * 64, texts).sha256 == first.sha256
    assert len(calls) == 1
    trainer.ensure(tmp_path, "b" * 64, texts)
    assert len(calls) == 2
    BpeTrainer(vocab_size=301).ensure(tmp_path, "b" * 64, texts)
    BpeTrainer(vocab_size=300, special_tokens=("<|bos|>",)).ensure(tmp_path, "b" * 64, texts)
    assert len(calls) == 4
    retrained = trainer.ensure(tmp_path, "b" * 64, texts)
    assert retrained.meta == {"corpus_sha256": "b" * 64, "train_bytes": trainer.train_bytes}
    assert len(calls) == 4


def test_ensure_replaces_a_file_of_an_earlier_release_but_no_damaged_one(tmp_path):
    trainer = BpeTrainer(vocab_size=300)
    path = tmp_path / trainer.file_name
    path.write_text('{"checksum":"0","format":"fednano-tokenizer","version":1,"merges":[[97,98]]}', encoding="utf-8")
    with pytest.raises(ValueError, match="it says version 1"):
        Tokenizer.load(path)
    trained = trainer.ensure(tmp_path, "a" * 64, lambda: real_text(3))
    assert Tokenizer.load(path).sha256 == trained.sha256
    path.write_text('{"format":"fednano-tokenizer","version":3}', encoding="utf-8")
    with pytest.raises(ValueError, match="delete it and train again"):
        trainer.ensure(tmp_path, "a" * 64, lambda: real_text(3))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_makes_a_trainer(path):
    config = OmegaConf.load(path)
    assert config.pop("_target_") == "fednano.tokenizer.train.BpeTrainer"
    trainer = BpeTrainer(**config)
    assert trainer.special_tokens == SPECIAL_TOKENS
    assert f"{trainer.vocab_size // 1024}k" in path.stem
    assert hash(trainer) == hash(BpeTrainer(vocab_size=trainer.vocab_size))


def test_import_is_light():
    heavy = "[m for m in ('pyarrow', 'torch', 'hydra', 'flwr', 'omegaconf') if m in sys.modules]"
    code = f"import sys, fednano.tokenizer.train; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)
