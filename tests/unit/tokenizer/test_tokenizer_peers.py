"""On ten megabytes of real text: pre-tokens equal the regular expression's, merges those of other trainers."""

import json
import sysconfig
from pathlib import Path

import fednano_rustbpe
import pytest
import regex
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

import rustbpe
from fednano.tokenizer import Tokenizer

VOCAB_SIZE = 32_768
BOS = ["<|bos|>"]
MEGABYTES = 10


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Sources of the standard library and of installed packages, in the order of their paths."""
    folders = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    found: list[str] = []
    size = 0
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        raw = path.read_bytes()
        try:
            found.append(raw.decode())
        except UnicodeDecodeError:
            continue
        size += len(raw)
        if size > MEGABYTES * 1_000_000:
            return found
    pytest.fail(f"the sources hold {size} bytes")


def huggingface_merges(texts: list[str], merges: int) -> list[tuple[str, str]]:
    """What `tokenizers` finds, each token as the characters that stand for its bytes."""
    model = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(fednano_rustbpe.regex("gpt4")), behavior="isolated")
    to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, to_characters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(model.to_str())["model"]["merges"]]


def byte_characters() -> list[str]:
    """The character that stands for each byte: itself if Latin-1 shows it, else one from 256 on."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    above = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(above)) for byte in range(256)]


def test_merges_equal_those_of_huggingface(texts):
    tokens = byte_characters()
    assert set(tokens) == set(pre_tokenizers.ByteLevel.alphabet())
    ours: list[tuple[str, str]] = []
    trained = Tokenizer.train(texts, VOCAB_SIZE, special_tokens=BOS, ties="huggingface")
    for left, right in trained.merges.tolist():
        ours.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    # Of two merges into one string `tokenizers` makes one token, and goes another way from there.
    assert len(set(tokens)) == len(tokens)
    assert ours == huggingface_merges(texts, len(ours))


def test_tokens_equal_those_of_rustbpe(texts):
    peer = rustbpe.Tokenizer()
    ours = Tokenizer.train(texts, VOCAB_SIZE, special_tokens=BOS, ties="bytes")
    tokens = [ours.token_bytes(token_id) for token_id in range(VOCAB_SIZE - len(BOS))]
    peer.train_from_iterator(iter(texts), len(tokens), pattern=fednano_rustbpe.regex("gpt4"))
    ranks = {bytes(token): rank for token, rank in peer.get_mergeable_ranks()}
    assert tokens == sorted(ranks, key=ranks.__getitem__)


@pytest.mark.parametrize("pattern", ["gpt4", "cl100k", "gpt2"])
def test_pretokens_equal_the_regex(texts, pattern):
    compiled = regex.compile(fednano_rustbpe.regex(pattern))
    for text in texts:
        words = [word.decode() for word in fednano_rustbpe.split(pattern, text)]
        assert words == compiled.findall(text)
