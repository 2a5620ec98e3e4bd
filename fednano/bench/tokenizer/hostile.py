"""Hostile inputs, on which careless encoders take quadratic time; all but the last are one pre-token."""

import random
import string

REPEATED = {"letters a": "a", "letters ab": "ab", "spaces": " ", "newlines": "\n"}
NAMES = (*REPEATED, "random letters", "random bytes")


def text(name: str, size: int) -> str | bytes:
    """The input `name` with `size` bytes, an even number."""
    if name in REPEATED:
        return REPEATED[name] * (size // len(REPEATED[name]))
    draw = random.Random(0)
    if name == "random letters":
        return "".join(draw.choices(string.ascii_lowercase, k=size))
    return draw.randbytes(size)
