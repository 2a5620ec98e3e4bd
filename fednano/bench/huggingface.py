"""The `tokenizers` package, set up to do what fednano's tokenizer does."""

import os
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer


def byte_characters() -> list[str]:
    """The character that stands for each byte: itself if Latin-1 shows it, else one from 256 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


def _around(model: models.BPE, pattern: str) -> tokenizers.Tokenizer:
    around = tokenizers.Tokenizer(model)
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
    to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    around.pre_tokenizer = pre_tokenizers.Sequence([split, to_characters])
    return around


def train(texts: list[str], vocab_size: int, pattern: str) -> tokenizers.Tokenizer:
    trained = _around(models.BPE(), pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=byte_characters(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return trained


def encoder(tokenizer: Tokenizer, threads: int) -> Callable[[list[str]], Any]:
    """Encodes texts with the same merges. More than one thread means RAYON_NUM_THREADS of them."""
    ranks, _, pattern = tokenizer.to_tiktoken()
    characters = byte_characters()
    tokens = ["".join(characters[byte] for byte in token) for token in ranks]
    merges = [(tokens[left], tokens[right]) for left, right in tokenizer.merges.tolist()]
    same = _around(models.BPE({token: at for at, token in enumerate(tokens)}, merges), pattern)

    def encode(texts: list[str]) -> Any:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        return same.encode_batch_fast(texts)

    return encode
