"""The byte-level BPE tokenizer: training, encoding, decoding, saving and loading.

The first 256 token ids are the bytes. The merges follow in the order in which they were found, then the special tokens.
A named pattern cuts text into pre-tokens ("gpt4" is GPT-4's, but with numbers of at most two digits), and no merge
crosses the border of a pre-token.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import fednano_rustbpe
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fednano.core.files import write_whole
from fednano.tokenizer import formats
from fednano.tokenizer.files import Paths, file_texts
from fednano.tokenizer.settings import (
    BOS,
    BYTES,
    SPECIAL_TOKENS,
    Ties,
    check_buffer,
    check_settings,
    checked_specials,
    checked_threads,
)
from fednano.tokenizer.texts import TextBatch, TextInput, batches, repaired

# Called with ("bytes", counted, total if known), then with ("merges", found, wanted). It may raise to stop training.
TrainingProgress = Callable[[str, int, int | None], object]

IdArray = NDArray[np.uint16 | np.uint32]


class Tokenizer:
    """A trained vocabulary. It is immutable, and two with equal `sha256` give equal ids.

    `merges` holds pairs of ids (n, 2), `byte_order` the bytes (256,) that the first ids stand for. `meta` is saved with
    the tokenizer, without effect on it. `dtype` is the type of ids: uint16 for vocabularies up to 65,536, else uint32.
    Raises ValueError for merges that use ids before they exist, unknown patterns, repeated special tokens, and an order
    that lacks a byte.
    """

    def __init__(
        self,
        merges: ArrayLike,
        *,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = SPECIAL_TOKENS,
        byte_order: Iterable[int] = range(BYTES),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.merges: NDArray[np.uint32] = np.array(merges, np.uint32).reshape(-1, 2)  # (n, 2)
        self.merges.setflags(write=False)
        self.pattern = pattern
        self.special_tokens = checked_specials(special_tokens)
        self.byte_order = bytes(byte_order)
        self.meta = dict(meta or {})
        self._core = fednano_rustbpe.Bpe(pattern, self.byte_order, self.merges.ravel(), self.special_tokens)
        self.vocab_size = self._core.vocab_size()
        wide = self.vocab_size > 1 << 16
        self.dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint32 if wide else np.uint16)
        first = BYTES + len(self.merges)
        self._special_ids = {token: first + at for at, token in enumerate(self.special_tokens)}

    @classmethod
    def train(
        cls,
        texts: TextInput,
        vocab_size: int,
        *,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = SPECIAL_TOKENS,
        ties: Ties = "bytes",
        threads: int | None = None,
        progress: TrainingProgress | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "Tokenizer":
        """Train a tokenizer of `vocab_size` ids, including bytes and special tokens.

        `texts` are read once, in batches. They are str or bytes, or an array of strings or binaries that supports the
        Arrow C data interface, or an iterable of these. Rows of arrays are not copied.
        The most frequent pair is merged first; among equally frequent pairs, the one with the smaller (left id, right
        id). With ties="huggingface", bytes are compared by their characters in Hugging Face's alphabet, as its
        `BpeTrainer` does. Threads, batches and the order of the texts do not affect the result. A corpus with too few
        distinct pairs gives a smaller vocabulary and a warning.
        Raises ValueError for an empty corpus, for arrays with nulls or of another type, and for settings that no
        training can satisfy.
        """
        return cls._train(texts, None, vocab_size, pattern, special_tokens, ties, threads, progress, meta)

    @classmethod
    def train_files(
        cls,
        paths: Paths,
        vocab_size: int,
        *,
        column: str = "text",
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = SPECIAL_TOKENS,
        ties: Ties = "bytes",
        threads: int | None = None,
        progress: TrainingProgress | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "Tokenizer":
        """As `train`, on one or several files, each read once and in bounded memory.

        In a `.parquet` file each row of `column` is a text; nulls are skipped. Any other file is one text of arbitrary
        bytes. A large file is mapped into memory and must not be shortened meanwhile. `progress` gets the approximate
        total of bytes.
        Raises FileNotFoundError for a missing file; ValueError for a folder, an unreadable or damaged file, and a
        column that is missing or holds no text. If possible, it does so before it reads the first file.
        """
        texts, total = file_texts(paths, column)
        return cls._train(texts, total, vocab_size, pattern, special_tokens, ties, threads, progress, meta)

    @classmethod
    def _train(
        cls,
        texts: TextInput,
        total: int | None,
        vocab_size: int,
        pattern: str,
        special_tokens: Iterable[str],
        ties: Ties,
        threads: int | None,
        progress: TrainingProgress | None,
        meta: Mapping[str, Any] | None,
    ) -> "Tokenizer":
        """`total`: the approximate number of bytes of the texts; None if unknown."""
        specials = checked_specials(special_tokens)
        check_settings(vocab_size, pattern, specials, ties)
        wanted = vocab_size - BYTES - len(specials)
        trainer = fednano_rustbpe.Trainer(pattern, checked_threads(threads))
        counted = 0

        def report(more: int) -> None:
            nonlocal counted
            counted += more
            if progress:
                progress("bytes", counted if total is None else min(counted, total), total)

        for batch in batches(texts):
            _count(trainer, batch, report)
        merges = trainer.train(wanted, ties, (lambda done: progress("merges", done, wanted)) if progress else None)
        tokenizer = cls(merges, pattern=pattern, special_tokens=specials, meta=meta)
        if tokenizer.vocab_size < vocab_size:
            warnings.warn(
                f"tokenizer.vocab_size={vocab_size} is not reached: the corpus yields a vocabulary of only "
                f"{tokenizer.vocab_size}; train on more text or use a smaller tokenizer.vocab_size",
                stacklevel=3,
            )
        return tokenizer

    def encode(self, text: str | bytes, allowed_special: Collection[str] | Literal["all"] = ()) -> IdArray:
        """The ids of `text`, of the tokenizer's `dtype`.

        A special token in the text is encoded as such only if `allowed_special` names it ("all" names all of them);
        otherwise it is plain text. If two special tokens begin at the same place, the longer one counts.
        Raises ValueError for names that are not special tokens.
        """
        allowed = self.special_tokens if allowed_special == "all" else allowed_special
        if not allowed:
            return self._encode([text], 1)[0]
        ids = {name.encode(): self.id_of(name) for name in sorted(allowed, key=len, reverse=True)}
        plain = repaired(text)
        raw = plain if isinstance(plain, bytes) else plain.encode()
        between = re.split(b"(" + b"|".join(map(re.escape, ids)) + b")", raw)
        # Every other part is a special token.
        parts = [
            np.array([ids[part]], self.dtype) if at % 2 else self._encode([part], 1)[0]
            for at, part in enumerate(between)
        ]
        return np.concatenate(parts)

    def encode_batch(self, texts: TextInput, threads: int | None = None) -> tuple[IdArray, NDArray[np.int64]]:
        """All ids in one array, and offsets (n + 1,) int64: text i has ids[offsets[i] : offsets[i + 1]].

        `texts` as in `train`; special tokens in them are plain text. Raises ValueError for Arrow arrays with nulls or
        of anything but strings and binaries.
        """
        workers = checked_threads(threads)
        done = [self._encode(batch, workers) for batch in batches(texts)]
        ids = done[0][0] if len(done) == 1 else np.concatenate([np.empty(0, self.dtype), *(part for part, _ in done)])
        offsets = np.zeros(1 + sum(len(counts) for _, counts in done), np.int64)
        np.concatenate([offsets[:0], *(counts for _, counts in done)], out=offsets[1:])
        return ids, np.cumsum(offsets, out=offsets)

    def encode_into(self, texts: str | bytes | TextInput, buffer: IdArray, threads: int | None = None) -> int:
        """Write the ids of one text, or of many in a row, to the start of `buffer`; returns the number of ids.

        `buffer` is (n,) of the tokenizer's `dtype`, C-contiguous and writable. Special tokens in the texts are plain
        text. Raises ValueError for any other buffer. If the buffer is too small, the error names the number of ids
        needed, and the buffer's content is undefined. Otherwise it raises as `encode_batch` does.
        """
        check_buffer(buffer, self.dtype)
        workers = checked_threads(threads)
        needed = 0
        for batch in [[texts]] if isinstance(texts, str | bytes) else batches(texts):
            rest = buffer[min(needed, len(buffer)) :]
            try:
                needed += self._core.encode_into(batch, workers, rest)
            except UnicodeEncodeError:
                needed += self._core.encode_into(_repaired(batch), workers, rest)
        if needed > len(buffer):
            raise ValueError(f"buffer must have room for {needed} ids, got {len(buffer)}; pass one of {needed}")
        return needed

    def _encode(self, batch: TextBatch, threads: int) -> tuple[IdArray, NDArray[np.int64]]:
        """The ids of all texts, and the number of ids of each text."""
        try:
            return self._core.encode(batch, threads)
        except UnicodeEncodeError:
            return self._core.encode(_repaired(batch), threads)

    def decode(self, ids: ArrayLike) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD. Raises ValueError as `decode_bytes` does."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """The bytes of one row of `ids`; special tokens decode to their names. Raises ValueError for bad ids."""
        array = np.asarray(ids)
        if array.size == 0:
            return b""
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"ids must be one row of whole numbers, got shape {array.shape}, type {array.dtype}; pass a list of ids"
            )
        if array.dtype not in (np.uint16, np.uint32):
            low, high = int(array.min()), int(array.max())
            if low < 0 or high >= self.vocab_size:
                raise ValueError(
                    f"id {low if low < 0 else high} is outside the vocabulary of {self.vocab_size}; "
                    "pass ids from this tokenizer"
                )
        narrow = array.dtype == np.uint16
        return self._core.decode(np.ascontiguousarray(array, np.uint16 if narrow else np.uint32))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token. Raises ValueError for an id out of range."""
        return self.decode_bytes([token_id])

    def token_lengths(self) -> NDArray[np.int32]:
        """Bytes per token id, (vocab_size,); 0 for special tokens, which stand for no text."""
        return self._core.token_lengths().astype(np.int32)

    def id_of(self, special: str) -> int:
        """The id of a special token. Raises ValueError for any other string."""
        if special not in self._special_ids:
            known = ", ".join(self.special_tokens)
            raise ValueError(f"{special!r} is not a special token of this tokenizer; use one of {known}")
        return self._special_ids[special]

    @property
    def bos_id(self) -> int:
        """The id of <|bos|>, which begins each document."""
        return self.id_of(BOS)

    @cached_property
    def sha256(self) -> str:
        """Digest of everything that decides the ids: pattern, special tokens, merges and the order of the bytes."""
        import json
        from hashlib import sha256

        identity = {**self._identity(), "merges": self.merges.tolist()}
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _identity(self) -> dict[str, Any]:
        identity: dict[str, Any] = {
            "pattern": self.pattern,
            "special_tokens": list(self.special_tokens),
            "merges": self.merges,
        }
        if self.byte_order != bytes(range(BYTES)):
            identity["byte_order"] = list(self.byte_order)
        return identity

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, ({**self._identity(), "meta": self.meta},)

    def to_tiktoken(self) -> tuple[dict[bytes, int], dict[str, int], str]:
        """`mergeable_ranks`, `special_tokens` and `pat_str` of a tiktoken.Encoding that gives equal ids.

        Raises ValueError if two tokens have the same bytes, which never happens in training.
        """
        return formats.ranks_of(self._tokens()), dict(self._special_ids), fednano_rustbpe.regex(self.pattern)

    @classmethod
    def from_tiktoken(cls, ranks: Mapping[bytes, int], pattern: str, special_tokens: Mapping[str, int]) -> "Tokenizer":
        """The tokenizer that gives the ids of a tiktoken.Encoding with these `mergeable_ranks` and special tokens.

        `pattern` is a name as in `train`. Raises ValueError, which names the token, unless the ranks are those of
        byte-level BPE, their first 256 tokens are the single bytes, and the special tokens follow them without gaps.
        """
        byte_order, merges = formats.from_ranks(ranks)
        specials = formats.specials_after(len(ranks), special_tokens)
        return cls(merges, pattern=pattern, special_tokens=specials, byte_order=byte_order)

    def to_huggingface(self, path: str | Path) -> None:
        """Write a `tokenizer.json` with which the `tokenizers` package gives equal ids for text without special tokens.

        In that package, special tokens in a text always count as special. Raises ValueError if two tokens have the same
        bytes, or a special token has the name of another token.
        """
        import json

        regex = fednano_rustbpe.regex(self.pattern)
        content = formats.huggingface(self._tokens(), self.merges, self._special_ids, regex)
        write_whole(Path(path), json.dumps(content, ensure_ascii=False, indent=1).encode())

    def _tokens(self) -> list[bytes]:
        """The bytes of each token except the special tokens."""
        count = BYTES + len(self.merges)
        ends = [0, *np.cumsum(self.token_lengths()[:count], dtype=np.int64).tolist()]
        data = self.decode_bytes(np.arange(count, dtype=np.uint32))
        return [data[start:end] for start, end in pairwise(ends)]

    def save(self, path: str | Path) -> None:
        """Write one JSON file, completely or not at all."""
        formats.write_own(Path(path), self._identity(), self.meta)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """The tokenizer that `save` wrote. Raises ValueError if the file is damaged or of another kind."""
        content = formats.read_own(Path(path))
        try:
            return cls(**content)
        except (ValueError, TypeError) as error:
            raise formats.refusal(Path(path), error) from error


def _count(trainer: fednano_rustbpe.Trainer, batch: TextBatch, report: Callable[[int], None]) -> None:
    try:
        trainer.update(batch, report)
    except UnicodeEncodeError:
        trainer.update(_repaired(batch), report)


def _repaired(batch: TextBatch) -> TextBatch:
    return [repaired(text) for text in batch] if isinstance(batch, list) else batch


def _restored(content: dict[str, Any]) -> Tokenizer:
    return Tokenizer(**content)
