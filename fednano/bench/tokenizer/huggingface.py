"""The `tokenizers` package, set up to do what fednano's tokenizer does."""

from collections.abc import Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from fednano.tokenizer import Tokenizer


def byte_characters() -> list[str]:
    """The character that stands for each byte: itself if Latin-1 shows it, else one from 256 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


def _around(model: models.BPE, regex: str) -> tokenizers.Tokenizer:
    around = tokenizers.Tokenizer(model)
    split = pre_tokenizers.Split(tokenizers.Regex(regex), behavior="isolated")
    to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    around.pre_tokenizer = pre_tokenizers.Sequence([split, to_characters])
    around.decoder = decoders.ByteLevel()
    return around


def train(texts: Iterator[str], vocab_size: int, regex: str) -> tokenizers.Tokenizer:
    """A tokenizer without special tokens."""
    trained = _around(models.BPE(), regex)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=byte_characters(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return trained


def same(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer with the same merges and pattern."""
    ranks, _, regex = tokenizer.to_tiktoken()
    characters = byte_characters()
    tokens = ["".join(characters[byte] for byte in token) for token in ranks]
    merges = [(tokens[left], tokens[right]) for left, right in tokenizer.merges.tolist()]
    return _around(models.BPE({token: at for at, token in enumerate(tokens)}, merges), regex)
