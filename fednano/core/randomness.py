"""Random generators named by their purpose.

There is no global seed: a draw depends only on its name, never on earlier draws.
"""

import hashlib

import numpy as np


def named_seed(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the purpose given by `name`, such as (client, round, "batches")."""
    text = "\x1f".join([str(seed), *map(str, name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator for the purpose given by `name`."""
    return np.random.default_rng(named_seed(seed, *name))
