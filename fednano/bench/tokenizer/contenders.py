"""The contenders: how each library trains and encodes. Libraries are only imported in their own processes."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training job: find `merges` merges in `files`, which hold `alphabet` distinct bytes."""

    files: list[str]
    alphabet: int
    pattern: str
    merges: int
    threads: int


# Returns the number of merges found.
Train = Callable[[Training], int]


@dataclass(frozen=True)
class Encoder:
    """A loaded tokenizer. `ids` turns the result of `encode` into one row; `decode` takes such a row."""

    encode: Callable[[list[Any]], Any]  # texts, for most libraries only str
    ids: Callable[[Any], "NDArray[np.uint32]"]
    decode: Callable[["NDArray[np.uint32]"], bytes]


# (folder that `prepare` filled, pattern, threads) to an encoder.
Load = Callable[[Path, str, int], Encoder]


@dataclass(frozen=True, kw_only=True)
class TokenizerContender:
    """A library: its functions and pre-token patterns for training and encoding; empty if not measured."""

    library: str
    train: Train | None = None
    train_pattern: str = ""
    load: Load | None = None
    encode_pattern: str = ""

    @property
    def module(self) -> str:
        return "fednano.tokenizer" if self.library == "fednano" else self.library


def prepare(folder: Path, files: list[str], patterns: list[str], merges: int, threads: int) -> None:
    """Train fednano once and write its merges in every format that the `load` functions read."""
    import base64

    from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer

    trained = Tokenizer.train_files(files, 256 + merges + len(SPECIAL_TOKENS), threads=threads)
    for pattern in patterns:
        Tokenizer(trained.merges, pattern=pattern).save(folder / f"{pattern}.json")
    ranks, specials, regex = trained.to_tiktoken()
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (folder / "ranks.tiktoken").write_bytes(b"".join(lines))
    (folder / "tiktoken.json").write_text(json.dumps({"special_tokens": specials, "pat_str": regex}), encoding="utf-8")
    # Hugging Face would recognise special tokens in the texts.
    Tokenizer(trained.merges, special_tokens=()).to_huggingface(folder / "tokenizer.json")


def read(files: list[str]) -> Iterator[str]:
    for file in files:
        yield Path(file).read_bytes().decode()


def _row(ids: Any) -> "NDArray[np.uint32]":
    """Lists of ids as one array."""
    import numpy as np

    return np.concatenate([np.asarray(text, np.uint32) for text in ids])


def _regex(pattern: str) -> str:
    import fednano_rustbpe

    return fednano_rustbpe.regex(pattern)


def _train_fednano(training: Training) -> int:
    from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer

    vocab_size = 256 + training.merges + len(SPECIAL_TOKENS)
    trained = Tokenizer.train_files(training.files, vocab_size, pattern=training.pattern, threads=training.threads)
    return len(trained.merges)


def _load_fednano(folder: Path, pattern: str, threads: int) -> Encoder:
    from fednano.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder / f"{pattern}.json")
    return Encoder(
        encode=lambda texts: tokenizer.encode_batch(texts, threads)[0],
        ids=lambda ids: ids.astype("uint32"),
        decode=tokenizer.decode_bytes,
    )


def _train_gigabpe(training: Training) -> int:
    import gigabpe

    # Its vocabulary only has bytes that occur in the text.
    vocab_size = training.alphabet + training.merges
    _, merges = gigabpe.train_bpe(training.files, vocab_size, pretokenizer="bytelevel", threads=training.threads)
    return len(merges)


def _train_gigatoken(training: Training) -> int:
    import gigatoken

    _, merges = gigatoken.train_bpe(gigatoken.TextFileSource(training.files), 256 + training.merges, [])
    return len(merges)


def _load_gigatoken(folder: Path, _pattern: str, threads: int) -> Encoder:
    import gigatoken

    # Without special tokens, which it would recognise in the texts. Its "gpt4" has numbers of up to three digits.
    tokenizer = gigatoken.Tokenizer.from_tiktoken(folder / "ranks.tiktoken", pretokenizer="gpt4")
    return Encoder(lambda texts: tokenizer.encode_batch(texts, parallel=threads > 1), _row, tokenizer.decode)


def _train_rustbpe(training: Training) -> int:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(read(training.files), 256 + training.merges, pattern=_regex(training.pattern))
    return int(tokenizer.vocab_size) - 256


def _train_bpeasy(training: Training) -> int:
    import bpeasy

    longest_token = 128  # bytes, as its own class has it
    ranks = bpeasy.train_bpe(read(training.files), _regex(training.pattern), longest_token, 256 + training.merges)
    return len(ranks) - 256


def _train_tokenizers(training: Training) -> int:
    from fednano.bench.tokenizer import huggingface

    trained = huggingface.train(read(training.files), 256 + training.merges, _regex(training.pattern))
    return trained.get_vocab_size() - 256


def _load_tokenizers(folder: Path, _pattern: str, threads: int) -> Encoder:
    import tokenizers

    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Encoder(
        encode=tokenizer.encode_batch_fast,
        ids=lambda texts: _row(text.ids for text in texts),
        decode=lambda ids: tokenizer.decode(ids.tolist(), skip_special_tokens=False).encode(),
    )


def _load_tiktoken(folder: Path, _pattern: str, threads: int) -> Encoder:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    settings = json.loads((folder / "tiktoken.json").read_text(encoding="utf-8"))
    ranks = load_tiktoken_bpe(str(folder / "ranks.tiktoken"))
    encoding = tiktoken.Encoding("peer", mergeable_ranks=ranks, **settings)
    return Encoder(
        encode=lambda texts: encoding.encode_ordinary_batch(texts, num_threads=threads),
        ids=_row,
        decode=lambda ids: encoding.decode_bytes(ids.tolist()),
    )


FEDNANO = TokenizerContender(
    library="fednano", train=_train_fednano, train_pattern="gpt4", load=_load_fednano, encode_pattern="gpt4"
)
PEERS = (
    TokenizerContender(library="gigabpe", train=_train_gigabpe, train_pattern="gpt2"),
    TokenizerContender(
        library="gigatoken", train=_train_gigatoken, train_pattern="gpt2", load=_load_gigatoken, encode_pattern="cl100k"
    ),
    TokenizerContender(library="rustbpe", train=_train_rustbpe, train_pattern="gpt4"),
    TokenizerContender(library="bpeasy", train=_train_bpeasy, train_pattern="gpt4"),
    TokenizerContender(
        library="tokenizers",
        train=_train_tokenizers,
        train_pattern="gpt4",
        load=_load_tokenizers,
        encode_pattern="gpt4",
    ),
    TokenizerContender(library="tiktoken", load=_load_tiktoken, encode_pattern="gpt4"),
)
CONTENDERS = {contender.library: contender for contender in (FEDNANO, *PEERS)}
