"""Byte-level BPE: train, encode, decode, save, load.

Token ids are the 256 bytes, then the merges in the order in which they were found, then the special tokens.
Text is cut into pre-tokens by a named pattern ("gpt4" is GPT-4's, with numbers of at most two digits), and no
merge crosses a pre-token.
"""

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import fednano_rustbpe
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fednano.tokenizer.settings import (
    BOS,
    BYTES,
    SPECIAL_TOKENS,
    check_settings,
    checked_specials,
    checked_threads,
)
from fednano.tokenizer.texts import Batch, Spans, Texts, batches, repaired, size

FORMAT, VERSION = "fednano-tokenizer", 1

# Called with ("bytes", bytes counted, None), then ("merges", merges found, merges wanted); may raise to stop.
Progress = Callable[[str, int, int | None], object]

Ids = NDArray[np.uint16 | np.uint32]


class Tokenizer:
    """A trained vocabulary. Immutable; two with equal `sha256` give equal ids.

    `merges`: pairs of ids (n, 2), in order. `meta` is saved along and means nothing to the tokenizer.
    Raises ValueError for merges that name ids before they exist, unknown patterns and repeated specials.
    """

    def __init__(
        self,
        merges: ArrayLike,
        *,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = SPECIAL_TOKENS,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.merges: NDArray[np.uint32] = np.array(merges, np.uint32).reshape(-1, 2)  # (n, 2)
        self.merges.setflags(write=False)
        self.pattern = pattern
        self.special_tokens = checked_specials(special_tokens)
        self.meta = dict(meta or {})
        self._core = fednano_rustbpe.Bpe(pattern, self.merges.ravel(), self.special_tokens)
        self.vocab_size = self._core.vocab_size()
        self._wide = self.vocab_size > 1 << 16
        self._dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint32 if self._wide else np.uint16)
        first = BYTES + len(self.merges)
        self._special_ids = {token: first + at for at, token in enumerate(self.special_tokens)}

    @classmethod
    def train(
        cls,
        texts: Texts,
        vocab_size: int,
        *,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = SPECIAL_TOKENS,
        ties: str = "bytes",
        threads: int | None = None,
        progress: Progress | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "Tokenizer":
        """A tokenizer of `vocab_size` ids, bytes and specials included. `texts` are read once, in batches.

        The most frequent pair is merged first, and of equally frequent ones that with the smaller (left id,
        right id); `ties="huggingface"` compares bytes by the characters that stand for them in the ByteLevel
        alphabet of `tokenizers`, as that library does. Threads, batches and the order of the texts do not matter.
        A corpus with too few distinct pairs gives a smaller vocabulary and a warning.
        Raises ValueError for an empty corpus, for unknown `ties` and for settings that no training can satisfy.
        """
        specials = checked_specials(special_tokens)
        check_settings(vocab_size, pattern, specials)
        wanted = vocab_size - BYTES - len(specials)
        trainer = fednano_rustbpe.Trainer(pattern, checked_threads(threads))
        counted = 0
        for batch in batches(texts):
            _count(trainer, batch)
            counted += size(batch)
            if progress:
                progress("bytes", counted, None)
        merges = trainer.train(wanted, ties, (lambda done: progress("merges", done, wanted)) if progress else None)
        found = np.frombuffer(merges, np.uint32)
        tokenizer = cls(found, pattern=pattern, special_tokens=specials, meta=meta)
        if tokenizer.vocab_size < vocab_size:
            warnings.warn(
                f"tokenizer.vocab_size={vocab_size} is not reached: the corpus only yields a vocabulary of "
                f"{tokenizer.vocab_size}; train on more text or ask for less",
                stacklevel=2,
            )
        return tokenizer

    def encode(self, text: str | bytes, allowed_special: Collection[str] | Literal["all"] = ()) -> Ids:
        """The ids of `text`: uint16 for vocabularies up to 65,536, else uint32.

        A special token in the text is one only if `allowed_special` names it ("all" names every one), else it
        is text. Of two that begin at the same place the longer counts.
        Raises ValueError for names that are no special token.
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
            np.array([ids[part]], self._dtype) if at % 2 else self._encode([part], 1)[0]
            for at, part in enumerate(between)
        ]
        return np.concatenate(parts)

    def encode_batch(self, texts: Texts, threads: int | None = None) -> tuple[Ids, NDArray[np.int64]]:
        """All ids in one row, and offsets, int64 (n + 1): text i has ids[offsets[i] : offsets[i + 1]].

        Special tokens in the texts are text. Raises ValueError for Arrow arrays with nulls.
        """
        workers = checked_threads(threads)
        done = [self._encode(batch, workers) for batch in batches(texts)]
        ids = np.concatenate([np.empty(0, self._dtype), *(part for part, _ in done)])
        lengths = np.concatenate([np.zeros(1, np.int64), *(part for _, part in done)])
        return ids, np.cumsum(lengths)

    def _encode(self, batch: Batch, threads: int) -> tuple[Ids, NDArray[np.int64]]:
        """Ids and the number of ids of each text."""
        if isinstance(batch, Spans):
            ids, lengths = self._core.encode_spans(*batch, threads)
        else:
            try:
                ids, lengths = self._core.encode(batch, threads)
            except UnicodeEncodeError:
                ids, lengths = self._core.encode([repaired(text) for text in batch], threads)
        return np.frombuffer(ids, self._dtype), np.frombuffer(lengths, np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. Raises ValueError as `decode_bytes`."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """The bytes of one row of `ids`, specials as own text. Raises ValueError for ids out of range."""
        array = np.asarray(ids)
        if array.size == 0:
            return b""
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"ids have shape {array.shape}, type {array.dtype}; pass one row of whole numbers")
        if array.dtype not in (np.uint16, np.uint32):
            low, high = int(array.min()), int(array.max())
            if low < 0 or high >= self.vocab_size:
                raise ValueError(
                    f"id {low if low < 0 else high} is outside the vocabulary of {self.vocab_size}; "
                    "pass ids that this tokenizer made"
                )
        return self._core.decode(np.ascontiguousarray(array, np.uint32))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token. Raises ValueError for an id out of range."""
        return self.decode_bytes([token_id])

    def token_lengths(self) -> NDArray[np.int32]:
        """Bytes per token id, (vocab_size,); 0 for specials, which stand for no text."""
        return np.frombuffer(self._core.token_lengths(), np.uint32).astype(np.int32)

    def id_of(self, special: str) -> int:
        """The id of a special token. Raises ValueError for any other string."""
        if special not in self._special_ids:
            known = ", ".join(self.special_tokens)
            raise ValueError(f"{special!r} is no special token of this tokenizer; it has {known}")
        return self._special_ids[special]

    @property
    def bos_id(self) -> int:
        """The id of <|bos|>, which begins each document."""
        return self.id_of(BOS)

    @cached_property
    def sha256(self) -> str:
        """Digest of all that decides the ids: pattern, specials and merges."""
        return _digest(self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "special_tokens": list(self.special_tokens),
            "merges": self.merges.tolist(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._identity(), self.meta)

    def to_tiktoken(self) -> tuple[dict[bytes, int], dict[str, int], str]:
        """`mergeable_ranks`, `special_tokens` and `pat_str` of a tiktoken.Encoding that gives equal ids."""
        ranks = {self.token_bytes(token_id): token_id for token_id in range(BYTES + len(self.merges))}
        return ranks, dict(self._special_ids), fednano_rustbpe.regex(self.pattern)

    def save(self, path: str | Path) -> None:
        """Writes one JSON file, whole or not at all."""
        path = Path(path)
        content = {"format": FORMAT, "version": VERSION, **self._identity(), "meta": self.meta}
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"checksum": _digest(content), **content}, file, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """The tokenizer that `save` wrote. Raises ValueError for a file that is damaged or anything else."""
        try:
            content = json.loads(Path(path).read_bytes())
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise ValueError(f"it says {content['format']!r}, version {content['version']!r}")
            if content.pop("checksum") != _digest(content):
                raise ValueError("the checksum does not fit the content")
            identity = {key: content[key] for key in ("pattern", "special_tokens", "merges")}
            return _restored(identity, content["meta"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{path} is no intact {FORMAT} file of version {VERSION} ({error}); delete it and train again"
            ) from error


def _count(trainer: fednano_rustbpe.Trainer, batch: Batch) -> None:
    if isinstance(batch, Spans):
        trainer.update_spans(*batch)
        return
    try:
        trainer.update(batch)
    except UnicodeEncodeError:
        trainer.update([repaired(text) for text in batch])


def _restored(identity: dict[str, Any], meta: dict[str, Any]) -> Tokenizer:
    return Tokenizer(**identity, meta=meta)


def _digest(content: Mapping[str, Any]) -> str:
    """sha256 of the JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
