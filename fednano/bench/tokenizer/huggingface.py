"""The `tokenizers` package, set up to do what fednano's tokenizer does."""

from collections.abc import Iterator

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from fednano.tokenizer.formats import byte_characters


def train(texts: Iterator[str], vocab_size: int, regex: str) -> tokenizers.Tokenizer:
    """A tokenizer without special tokens."""
    trained = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(regex), behavior="isolated")
    to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trained.pre_tokenizer = pre_tokenizers.Sequence([split, to_characters])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=byte_characters(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return trained
