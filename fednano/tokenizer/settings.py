"""What a tokenizer can be asked for, and the errors for the rest."""

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
    """Raises ValueError, with the remedy, for settings that no training can satisfy."""
    fednano_rustbpe.regex(pattern)
    if ties not in get_args(Ties):
        raise ValueError(f"tokenizer.ties={ties!r} is not known; use one of: {', '.join(get_args(Ties))}")
    if BOS not in special_tokens:
        raise ValueError(
            f"tokenizer.special_tokens={list(special_tokens)} lacks {BOS}, which begins each document; add it"
        )
    least = BYTES + len(special_tokens)
    whole = isinstance(vocab_size, int) and not isinstance(vocab_size, bool)
    if not whole:
        raise ValueError(f"tokenizer.vocab_size={vocab_size!r} is not a whole number; use one, such as 4096")
    if vocab_size < least:
        raise ValueError(
            f"tokenizer.vocab_size={vocab_size} is below the {BYTES} bytes + {len(special_tokens)} special "
            f"tokens; use at least {least}, better 4096 or more"
        )
    if vocab_size > MAX_VOCAB_SIZE:
        raise ValueError(f"tokenizer.vocab_size={vocab_size} is above {MAX_VOCAB_SIZE}; use at most that")


def checked_specials(special_tokens: Iterable[str]) -> tuple[str, ...]:
    """The special tokens as a tuple. Raises ValueError unless all are non-empty strings, each there once."""
    if isinstance(special_tokens, str):
        raise ValueError(f"tokenizer.special_tokens={special_tokens!r} is one string; use a list of strings")
    specials = tuple(special_tokens)
    for token in specials:
        if not isinstance(token, str) or not token or repaired(token) != token:
            raise ValueError(f"tokenizer.special_tokens holds {token!r}; use non-empty strings")
        if specials.count(token) > 1:
            raise ValueError(f"tokenizer.special_tokens holds {token!r} twice; name each token once")
    return specials


def checked_threads(threads: int | None) -> int:
    """`threads`, or one for each core that this process may use. Raises ValueError below 1."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise ValueError(f"threads={threads} is below 1; use at least 1, or None for all cores")
    return threads


def check_buffer(buffer: object, dtype: np.dtype[Any]) -> None:
    """Raises ValueError unless `buffer` is one writable, contiguous row of `dtype`."""
    if not isinstance(buffer, np.ndarray):
        raise ValueError(f"buffer is a {type(buffer).__name__}; pass a NumPy array, such as np.empty(n, np.{dtype})")
    if buffer.ndim != 1 or buffer.dtype != dtype:
        raise ValueError(
            f"buffer has shape {buffer.shape}, type {buffer.dtype}; pass one row of {dtype}, the type of this "
            "vocabulary's ids"
        )
    if not buffer.flags.c_contiguous or not buffer.flags.writeable:
        raise ValueError("buffer is read-only or strided; pass a writable array whose ids lie side by side")
