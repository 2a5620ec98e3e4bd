"""The GPT: pre-norm, residual scales, rotary attention with QK norm, ReLU² MLP, untied head, soft-capped logits."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fednano.model.loss import softcap_cross_entropy
from fednano.model.scaling import Depth, padded_vocabulary

IGNORE = -1  # target of a position whose next token does not count


@dataclass(frozen=True)
class Arch:
    """What the architecture is, whatever its size.

    Args:
        name: what it is called.
        rotary_base: base of the rotary frequencies.
        logit_softcap: logits are capped to ±this by `cap · tanh(logit / cap)`.
        mlp_ratio: hidden width of the MLP over the model's width.
    """

    name: str
    rotary_base: float = 10_000.0
    logit_softcap: float = 15.0
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for key, value in (
            ("rotary_base", self.rotary_base),
            ("logit_softcap", self.logit_softcap),
            ("mlp_ratio", self.mlp_ratio),
        ):
            if not value > 0:
                raise ValueError(f"arch.{key}={value} must be positive; arch=seed has {getattr(SEED, key)}")


SEED = Arch(name="seed")


@dataclass(frozen=True)
class GPTConfig:
    """Everything that the weights' shapes and the forward pass depend on."""

    vocab_size: int
    sequence_len: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    arch: Arch

    @classmethod
    def derive(cls, depth: Depth, arch: Arch, vocab_size: int) -> "GPTConfig":
        """The model of `depth` for a tokenizer of `vocab_size` ids."""
        return cls(vocab_size, depth.sequence_len, depth.depth, depth.width, depth.heads, depth.kv_heads, arch)

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def to_dict(self) -> dict[str, Any]:
        """JSON form, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "GPTConfig":
        return cls(**{**record, "arch": Arch(**record["arch"])})


def rms_norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without parameters."""
    return F.rms_norm(x, (x.size(-1),))


def rotary_tables(length: int, head_dim: int, base: float, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (length, head_dim / 2) float32."""
    frequencies = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of each head by −θ: y₁ = a·cos + b·sin, y₂ = −a·sin + b·cos; x is (B, H, T, D)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.c_q = nn.Linear(config.width, self.heads * self.head_dim, bias=False)
        self.c_k = nn.Linear(config.width, self.kv_heads * self.head_dim, bias=False)
        self.c_v = nn.Linear(config.width, self.kv_heads * self.head_dim, bias=False)
        self.c_proj = nn.Linear(self.heads * self.head_dim, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        B, T, _ = x.shape
        q = self.c_q(x).view(B, T, self.heads, self.head_dim).transpose(1, 2)
        k = self.c_k(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.c_v(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rms_norm(rotate(q, cos, sin)), rms_norm(rotate(k, cos, sin))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, -1))
        return out


class MLP(nn.Module):
    """Two projections with ReLU² between."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        hidden = config.arch.mlp_ratio * config.width
        self.c_fc = nn.Linear(config.width, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        out: Tensor = self.c_proj(F.relu(self.c_fc(x)).square())
        return out


class Block(nn.Module):
    """Attention and MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(rms_norm(x), cos, sin)
        out: Tensor = x + self.mlp(rms_norm(x))
        return out


class GPT(nn.Module):
    """x = norm(embedding), x0 = x; per block x ← r_i·x + e_i·x0, attention, MLP; final norm, untied head, soft cap.

    Weights are uninitialised zeros or noise until `init_weights` or `load_state_dict`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        vocabulary = padded_vocabulary(config.vocab_size)
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        self.resid_lambdas = nn.Parameter(torch.ones(config.layers))  # r
        self.x0_lambdas = nn.Parameter(torch.zeros(config.layers))  # e
        cos, sin = rotary_tables(config.sequence_len, config.head_dim, config.arch.rotary_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Fill the weights as the architecture begins.

        Embedding N(0, 1), head N(0, 0.001), input projections uniform with standard deviation 1/√C, output
        projections 0, r 1, e 0.
        """
        self.embedding.weight.normal_(0.0, 1.0, generator=generator)
        self.head.weight.normal_(0.0, 0.001, generator=generator)
        bound = math.sqrt(3.0 / self.config.width)
        for block in self.blocks:
            assert isinstance(block, Block)
            for projection in (block.attn.c_q, block.attn.c_k, block.attn.c_v, block.mlp.c_fc):
                projection.weight.uniform_(-bound, bound, generator=generator)
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
        self.resid_lambdas.fill_(1.0)
        self.x0_lambdas.zero_()

    def features(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 → (B, T, C), what the head reads; T at most `sequence_len`."""
        T = tokens.size(1)
        if self.config.sequence_len < T:
            raise ValueError(f"{T} tokens do not fit model.sequence_len={self.config.sequence_len}; shorten the input")
        cos, sin = self.cos[:T], self.sin[:T]
        x = x0 = rms_norm(self.embedding(tokens))
        for i, block in enumerate(self.blocks):
            x = block(self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0, cos, sin)
        return rms_norm(x)

    def cap(self, logits: Tensor) -> Tensor:
        """Soft cap of raw logits, in float32, padding of the vocabulary cut off."""
        limit = self.config.arch.logit_softcap
        return limit * torch.tanh(logits[..., : self.config.vocab_size].float() / limit)

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 → (B, T, vocab_size) float32, soft-capped."""
        return self.cap(self.head(self.features(tokens)))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar; `tokens` and `targets` (B, T) int64; a target of −1 does not count."""
        x = self.features(tokens).flatten(0, 1)
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        config = self.config
        return softcap_cross_entropy(
            x, self.head.weight, targets.flatten(), config.arch.logit_softcap, config.vocab_size, IGNORE
        )
