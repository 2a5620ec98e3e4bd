"""Generators named by what they are for.

There is no global seed: a draw depends on its name alone, never on what was drawn before.
"""

import hashlib

import numpy as np


def named_seed(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the purpose that `name` spells out, such as (client, round, "batches")."""
    text = "\x1f".join([str(seed), *map(str, name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator for the purpose that `name` spells out."""
    return np.random.default_rng(named_seed(seed, *name))
