"""The sizes of a model, all derived from its depth.

Source: nanochat (Karpathy, 2025): width 64 per layer rounded up to whole heads of 128; tokens, batch and learning rates
as at depth 12, scaled.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated

from fednano.core.ranges import Range
from fednano.model.arch import SEED, VALUE_GATE_WIDTH, Arch

HEAD_DIM = 128
WIDTH_PER_LAYER = 64
REFERENCE_DEPTH = 12
REFERENCE_WIDTH = 768
REFERENCE_BATCH = 1 << 19  # tokens of an optimizer step
BATCH_EXPONENT = 0.383
TOKENS_PER_PARAMETER = 12
VOCABULARY_MULTIPLE = 64  # padding the head to whole tiles keeps its matrix products fast


@dataclass(frozen=True)
class Depth:
    """The depth of a GPT, which sets its size.

    Args:
        depth: number of layers; also sets the width ⌈64·depth/128⌉·128.
        sequence_len: tokens T in one row of a batch.
        kv_groups: number of query heads that share one key/value head (1: plain multi-head attention).
        name: name of the model in summaries; empty: d<depth>.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    depth: Annotated[int, Range(le=1000)]
    sequence_len: Annotated[int, Range(ge=2, le=1 << 20)] = 256
    kv_groups: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"model.depth must be >= 1, got {self.depth}; use 1 or more, such as model=d2")
        if self.sequence_len < 2:
            raise ValueError(f"model.sequence_len must be >= 2, got {self.sequence_len}; use 2 or more")
        if self.kv_groups < 1 or self.heads % self.kv_groups:
            raise ValueError(
                f"model.kv_groups must divide the {self.heads} heads of depth {self.depth}, got {self.kv_groups}; use 1"
            )

    @property
    def heads(self) -> int:
        return -(-WIDTH_PER_LAYER * self.depth // HEAD_DIM)

    @property
    def width(self) -> int:
        return self.heads * HEAD_DIM

    @property
    def kv_heads(self) -> int:
        return self.heads // self.kv_groups


def padded_vocabulary(vocab_size: int) -> int:
    """`vocab_size` rounded up to a multiple of 64."""
    return -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def block_matrices(depth: Depth, arch: Arch) -> int:
    """Entries of the matrices inside the blocks, including the gates of the value embeddings."""
    C, kv_width = depth.width, depth.kv_heads * HEAD_DIM
    attention = 2 * C * C + 2 * C * kv_width
    gates = VALUE_GATE_WIDTH * depth.kv_heads * len(arch.value_layers(depth.depth))
    return depth.depth * (attention + 2 * arch.mlp_ratio * C * C) + gates


def multiplied_parameters(depth: Depth, vocab_size: int, arch: Arch) -> int:
    """Entries that every token is multiplied by: matrices of the blocks and the head. Embeddings are only looked up."""
    return block_matrices(depth, arch) + padded_vocabulary(vocab_size) * depth.width


def flops_per_token(depth: Depth, vocab_size: int, arch: Arch = SEED) -> float:
    """Floating-point operations per training token, forward and backward: 6 per matrix entry, plus 12·C times the
    window (T without one) for attention in each layer.

    Source: Chowdhery et al. 2022 (PaLM), appendix B.
    """
    windows = arch.windows(depth.depth, depth.sequence_len)
    return 6.0 * multiplied_parameters(depth, vocab_size, arch) + 12.0 * depth.width * sum(windows)


def training_tokens(depth: Depth, vocab_size: int, arch: Arch) -> int:
    """Tokens D to train a model of this depth on: 12 for each entry of block matrices and head."""
    return TOKENS_PER_PARAMETER * multiplied_parameters(depth, vocab_size, arch)


def batch_tokens(depth: Depth, vocab_size: int, arch: Arch) -> int:
    """Tokens B of an optimizer step: 2¹⁹·(D/D_d12)^0.383, rounded to a power of two.

    D_d12 is the number of training tokens at depth 12 with the same architecture and vocabulary. The exponent comes
    from Power Lines (2505.13738).
    """
    reference = replace(depth, depth=REFERENCE_DEPTH, kv_groups=1)
    ratio = training_tokens(depth, vocab_size, arch) / training_tokens(reference, vocab_size, arch)
    return 1 << max(0, round(math.log2(REFERENCE_BATCH * ratio**BATCH_EXPONENT)))


def derived_shape(
    depth: Depth, vocab_size: int, arch: Arch, clients: int, local_steps: int, batch_size: int | None
) -> tuple[int, int]:
    """(rows of a client's batch, rounds) that train D tokens, where the batches of all clients add up to B tokens.

    A given `batch_size` is kept, and the rounds follow from it.
    """
    if batch_size is None:
        batch_size = max(1, batch_tokens(depth, vocab_size, arch) // (clients * depth.sequence_len))
    per_round = clients * local_steps * batch_size * depth.sequence_len
    return batch_size, -(-training_tokens(depth, vocab_size, arch) // max(1, per_round))


def width_lr_scale(width: int) -> float:
    """Factor on the learning rates of AdamW's groups, which are set for width 768: (C/768)^−½."""
    return float((width / REFERENCE_WIDTH) ** -0.5)


def batch_lr_scale(tokens: int) -> float:
    """Factor on all learning rates, which are set for steps of 2¹⁹ tokens: √(B/2¹⁹)."""
    return math.sqrt(tokens / REFERENCE_BATCH)
