"""Prepared data of a run: its corpus, the tokenizer trained on it, and the held-out documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fednano.core.progress import Progress
from fednano.data.loader import TextSource
from fednano.data.shards import Corpus
from fednano.tokenizer import Tokenizer
from fednano.tokenizer.train import BpeTrainer


@dataclass(frozen=True)
class Prepared:
    """The corpus and its tokenizer, on disk and ready."""

    corpus: Corpus
    tokenizer: Tokenizer


def prepare_tokenizer(trainer: BpeTrainer, corpus: Corpus, progress: Progress) -> Tokenizer:
    """The tokenizer of this corpus; trained and stored beside the shards if it does not exist yet."""

    def texts() -> Iterator[Any]:
        left = trainer.train_bytes
        progress.start("training the tokenizer", min(left, corpus.train_bytes), "bytes")
        for array in corpus.iter_texts("train"):
            if left <= 0:
                break
            ends = np.concatenate(([0], pc.binary_length(array).to_numpy().cumsum(dtype=np.int64)))
            # The document that reaches the limit is the last one used.
            rows = min(int(np.searchsorted(ends, left)), len(array))
            yield array.slice(0, rows)
            progress.advance(int(ends[rows]))
            left -= int(ends[rows])
        progress.finish()

    return trainer.ensure(corpus.folder, corpus.sha256, texts)


def held_out(prepared: Prepared) -> Iterator[Any]:
    """The validation documents, each as BOS and token ids; read lazily."""
    tokenizer = prepared.tokenizer
    for array in prepared.corpus.iter_texts("validation"):
        source = TextSource(lambda _, array=array: array, tokenizer.encode_batch, tokenizer.bos_id)  # type: ignore[misc]
        yield from source.documents(range(len(array)))
