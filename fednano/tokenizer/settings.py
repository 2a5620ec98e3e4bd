"""Settings of tokenizers, and the checks that refuse bad ones."""

import os
from collections.abc import Iterable
from typing import Any, Literal, get_args

import fednano_rustbpe
import numpy as np

from fednano.tokenizer.texts import repaired

BYTES = 256
BOS = "<|bos|>"
SPECIAL_TOKENS = (BOS, "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>")
# The Rust core packs two ids and their merge into 64 bits.
MAX_VOCAB_SIZE = 1 << 21

# Which of two equally frequent pairs is merged first: see Tokenizer.train.
Ties = Literal["bytes", "huggingface"]


def check_settings(vocab_size: int, pattern: str, special_tokens: tuple[str, ...], ties: str) -> None:
    """Raise ValueError, with the remedy, for settings that no training can satisfy."""
    fednano_rustbpe.regex(pattern)
    if ties not in get_args(Ties):
        raise ValueError(f"tokenizer.ties must be one of {', '.join(get_args(Ties))}, got {ties}; choose one of them")
    if BOS not in special_tokens:
        raise ValueError(
            f"tokenizer.special_tokens must hold {BOS}, which begins each document, got {list(special_tokens)}; add it"
        )
    least = BYTES + len(special_tokens)
    whole = isinstance(vocab_size, int) and not isinstance(vocab_size, bool)
    if not whole:
        raise ValueError(f"tokenizer.vocab_size must be a whole number, got {vocab_size!r}; use such as 4096")
    if vocab_size < least:
        raise ValueError(
            f"tokenizer.vocab_size must be >= {least}, for {BYTES} bytes + {len(special_tokens)} special tokens, got "
            f"{vocab_size}; use 4096 or more"
        )
    if vocab_size > MAX_VOCAB_SIZE:
        raise ValueError(f"tokenizer.vocab_size must be <= {MAX_VOCAB_SIZE}, got {vocab_size}; use a smaller one")


def checked_specials(special_tokens: Iterable[str]) -> tuple[str, ...]:
    """The special tokens as a tuple. Raises ValueError unless all are non-empty strings and different."""
    if isinstance(special_tokens, str):
        raise ValueError(f"tokenizer.special_tokens must be a list of strings, got {special_tokens!r}; use a list")
    specials = tuple(special_tokens)
    for token in specials:
        if not isinstance(token, str) or not token or repaired(token) != token:
            raise ValueError(
                f"tokenizer.special_tokens must hold non-empty strings, got {token!r}; use one such as <|bos|>"
            )
        if specials.count(token) > 1:
            raise ValueError(f"tokenizer.special_tokens must hold each token once, got {token!r} twice; remove one")
    return specials


def checked_threads(threads: int | None) -> int:
    """`threads`, or one thread per core that this process may use if None. Raises ValueError below 1."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}; use 1 or more, or None for all cores")
    return threads


def check_buffer(buffer: object, dtype: np.dtype[Any]) -> None:
    """Raise ValueError unless `buffer` is one writable, contiguous row of `dtype`."""
    if not isinstance(buffer, np.ndarray):
        raise ValueError(
            f"buffer must be a NumPy array, got a {type(buffer).__name__}; pass such as np.empty(n, np.{dtype})"
        )
    if buffer.ndim != 1 or buffer.dtype != dtype:
        raise ValueError(
            f"buffer must be one row of {dtype}, the type of this vocabulary's ids, got shape {buffer.shape}, type "
            f"{buffer.dtype}; pass such a row"
        )
    if not buffer.flags.c_contiguous or not buffer.flags.writeable:
        raise ValueError("buffer must be writable and contiguous, got one that is not; pass such as np.empty(n)")
