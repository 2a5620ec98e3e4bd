"""Tokenizers on real and on hostile text."""

import textwrap
import warnings
from pathlib import Path

from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer


def real_text(count: int = 40) -> list[str]:
    """Sources of the standard library: prose in docstrings, code, numbers and some other scripts."""
    files = sorted(Path(textwrap.__file__).parent.glob("*.py"))[:count]
    return [path.read_text(encoding="utf-8") for path in files]


ADVERSARIAL = [
    "",
    " ",
    "'",
    "'s'S'ſ'll'LL'Re don't",
    "\r\n\r \n\t \u2028\u00a0x",
    "0123456789 ٣٤٥ Ⅻ²",
    "漢字かな交じり文。" * 30,
    "👩‍👩‍👧‍👦 e\u0301\u0327 \u200d\u200b",
    "a" * 5000,
    " " * 5000,
    "ab" * 3000 + "b" * 999,
    "<|bos|><|user_end|><|bos|",
    "\x00\x01\ufffe\U0010ffff",
]


def trained(texts, merges: int, **options) -> Tokenizer:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is not reached")
        return Tokenizer.train(texts, 256 + merges + len(SPECIAL_TOKENS), **options)
