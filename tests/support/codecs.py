"""Codecs of every kind, and tensors that try them."""

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st

from fednano.codec.bf16 import Bf16
from fednano.codec.blockwise import Quantized
from fednano.codec.fp32 import Fp32
from fednano.codec.lossy import Lossy
from fednano.codec.topk import TopK
from fednano.core.tensors import BLOCK, State

LOSSY: dict[str, Callable[..., Lossy]] = {"bf16": Bf16}
for bits in (8, 4, 2):
    name = f"int{bits}"
    LOSSY |= {
        name: lambda bits=bits, name=name, **keys: Quantized(name=name, bits=bits, block=64, **keys),
        f"{name}_random": lambda bits=bits, name=name, **keys: Quantized(
            name=name, bits=bits, rounding="stochastic", **keys
        ),
        f"{name}_quantile": lambda bits=bits, name=name, **keys: Quantized(
            name=name, bits=bits, levels="quantile", block=4096, **keys
        ),
    }
LOSSY |= {
    "topk": lambda **keys: TopK(chunk=64, k=5, **keys),
    "topk_int2": lambda **keys: TopK(values="int2", **keys),
    "topk_odd": lambda **keys: TopK(values="int2", chunk=BLOCK, k=3, **keys),
}
CODECS = {"fp32": Fp32, **LOSSY}

# Lengths about the sizes of blocks, chunks and bytes, and one that takes two of the blocks that are decoded at a time.
LENGTHS = (0, 1, 2, 3, 5, 16, 63, 64, 65, 255, 256, 257, 1000, 4096, 4101, BLOCK + 4099)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Numbers with heavy tails, as in updates."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).pow(3)


def state(seed: int) -> State:
    """A tensor of each length, and further shapes."""
    flat = {f"flat_{length}": drawn(seed + length, length) for length in LENGTHS}
    return {**flat, "scalar": drawn(seed, 1)[0], "none": torch.zeros(0, 3), "turned": drawn(seed, 33, 70).t()}


def floats(least: int = 0, most: int = 300) -> st.SearchStrategy[torch.Tensor]:
    """Finite float32 of any size; many of them equal, tiny or huge."""
    one = st.floats(width=32, allow_nan=False, allow_infinity=False)
    near = st.floats(-2.0, 2.0, width=32)
    few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3.4028234663852886e38, -3.4028234663852886e38])
    lists = [st.lists(kind, min_size=least, max_size=most) for kind in (one, near, few, one | near | few)]
    return st.one_of(lists).map(lambda values: torch.from_numpy(np.array(values, np.float32)))
