"""Byte-level BPE on top of the Rust core."""

from fednano.tokenizer.bpe import Tokenizer
from fednano.tokenizer.settings import SPECIAL_TOKENS

__all__ = ["SPECIAL_TOKENS", "Tokenizer"]
