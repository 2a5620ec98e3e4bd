"""One dial, the depth, derives the rest of the model.

Source: nanochat (Karpathy, 2025), width 64 per layer rounded up to whole heads of 128.
"""

from dataclasses import dataclass

HEAD_DIM = 128
WIDTH_PER_LAYER = 64
VOCABULARY_MULTIPLE = 64  # padding the head to whole tiles keeps its matrix products fast


@dataclass(frozen=True)
class Depth:
    """The size dial of a GPT.

    Args:
        depth: number of layers; also sets the width ⌈64·depth/128⌉·128.
        sequence_len: tokens T that one row of a batch holds.
        kv_groups: query heads that share one key/value head (1: plain multi-head attention).
        name: what the model is called in summaries; empty: d<depth>.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    depth: int
    sequence_len: int = 256
    kv_groups: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"model.depth={self.depth} has no layers; use 1 or more, such as model=d2")
        if self.sequence_len < 2:
            raise ValueError(f"model.sequence_len={self.sequence_len} is too short to predict in; use 2 or more")
        if self.kv_groups < 1 or self.heads % self.kv_groups:
            raise ValueError(
                f"model.kv_groups={self.kv_groups} does not divide the {self.heads} heads of depth {self.depth}; use 1"
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


def flops_per_token(depth: Depth, vocab_size: int) -> float:
    """Floating-point operations of one training token, forward and backward: 6 per matrix entry, 12·L·C·T for
    attention.

    Source: Chowdhery et al. 2022 (PaLM), appendix B.
    """
    matrices = 12 * depth.depth * depth.width**2 + padded_vocabulary(vocab_size) * depth.width
    return 6.0 * matrices + 12.0 * depth.depth * depth.width * depth.sequence_len
