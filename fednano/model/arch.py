"""The architecture independent of its size: one switch for each feature."""

from dataclasses import dataclass
from typing import Annotated

from fednano.core.ranges import Range

WINDOW_TILE = 128  # short windows are whole tiles of the attention kernels
VALUE_GATE_WIDTH = 12  # channels of the block's input that gate the value embeddings
SMEAR_GATE_WIDTH = 24  # channels of the embedding that gate the smear


@dataclass(frozen=True, kw_only=True)
class Arch:
    """The features of the architecture, independent of its size.

    Args:
        name: name in summaries.
        rotary_base: base of the rotary frequencies.
        logit_softcap: logits are capped to ±this by `cap · tanh(logit / cap)`.
        mlp_ratio: hidden width of the MLP over the model's width.
        qk_gain: factor on queries and keys after their norm.
        window_pattern: attention windows of the layers, dealt in turn: L is all earlier tokens, S a quarter of the
            sequence in whole tiles of 128. The last layer always has L.
        value_embeddings: whether every other layer, including the last, adds a gated embedding of the token to the
            values.
        smear: whether to add a gated share of the previous token's embedding to each token's.
        backout: whether to subtract a share of the stream after half of the blocks before the final norm.
        embedding_std: standard deviation of the embedding's initial values.
        fc_gain: factor on the initial values of the MLP's input projection.
        resid_init: initial residual scales r of the first and the last layer, linear in between.
        x0_init: initial scales e of the embedding in the first and the last layer, linear in between.
        backout_init: initial share that `backout` subtracts.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    name: str
    rotary_base: float = 10_000.0
    logit_softcap: float = 15.0
    mlp_ratio: Annotated[int, Range(ge=1, le=1000)] = 4
    qk_gain: float = 1.0
    window_pattern: str = "L"
    value_embeddings: bool = False
    smear: bool = False
    backout: bool = False
    embedding_std: float = 1.0
    fc_gain: float = 1.0
    resid_init: tuple[float, ...] = (1.0, 1.0)
    x0_init: tuple[float, ...] = (0.0, 0.0)
    backout_init: float = 0.2

    def __post_init__(self) -> None:
        for key in ("rotary_base", "logit_softcap", "mlp_ratio", "qk_gain", "embedding_std", "fc_gain"):
            value = getattr(self, key)
            if not value > 0:
                raise ValueError(f"arch.{key} must be > 0, got {value}; arch=seed has {getattr(SEED, key)}")
        if not self.window_pattern or set(self.window_pattern) - set("SL"):
            raise ValueError(
                f"arch.window_pattern must consist of the letters S and L, got {self.window_pattern}; use SSSL or L"
            )
        for key in ("resid_init", "x0_init"):
            ends = tuple(getattr(self, key))
            if len(ends) != 2:
                raise ValueError(
                    f"arch.{key} must be two numbers, got {list(ends)}; give those of the first and the last layer"
                )
            object.__setattr__(self, key, ends)

    def windows(self, layers: int, sequence_len: int) -> tuple[int, ...]:
        """The number of earlier tokens that each token attends to, by layer."""
        short = min(sequence_len, -(-sequence_len // (4 * WINDOW_TILE)) * WINDOW_TILE)
        pattern = self.window_pattern
        letters = [pattern[i % len(pattern)] for i in range(layers - 1)] + ["L"]
        return tuple(short if letter == "S" else sequence_len for letter in letters)

    def value_layers(self, layers: int) -> tuple[int, ...]:
        """The layers that have a value embedding."""
        return tuple(range((layers - 1) % 2, layers, 2)) if self.value_embeddings else ()


SEED = Arch(name="seed")
NANOCHAT = Arch(
    name="nanochat",
    rotary_base=100_000.0,
    qk_gain=1.2,
    window_pattern="SSSL",
    value_embeddings=True,
    smear=True,
    backout=True,
    embedding_std=0.8,
    fc_gain=0.4,
    resid_init=(1.15, 1.05),
    x0_init=(0.20, 0.05),
)
