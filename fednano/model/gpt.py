"""The GPT: pre-norm, residual scales, rotary attention with QK norm, ReLU² MLP, untied head, soft-capped logits.

Value embeddings, smear, backout and sliding windows are switches of `Arch`; all are nanochat's (Karpathy, 2025).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fednano.model.arch import SMEAR_GATE_WIDTH, VALUE_GATE_WIDTH, Arch
from fednano.model.cache import Cache, LayerCache
from fednano.model.fused import mix, relu_squared, rms_norm, rotary_norm
from fednano.model.loss import SliceLoss, slice_loss, softcap_cross_entropy
from fednano.model.scaling import Depth, padded_vocabulary
from fednano.model.window import attend

IGNORE = -1  # target of a position whose next token does not count


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Everything that the weights' shapes and the forward pass depend on.

    Raises:
        ValueError: figures that no model can have, named with their remedy.
    """

    vocab_size: int
    sequence_len: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    arch: Arch

    def __post_init__(self) -> None:
        for key in ("vocab_size", "sequence_len", "layers", "width", "heads", "kv_heads"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{key} must be a whole number >= 1, got {value}; give a whole number")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width must be a multiple of {2 * self.heads} with heads={self.heads}, got {self.width}; use such a "
                "multiple"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads={self.heads}, got {self.kv_heads}; use a divisor, such as 1")

    @classmethod
    def derive(cls, depth: Depth, arch: Arch, vocab_size: int) -> "GPTConfig":
        """The model of `depth` for a tokenizer of `vocab_size` ids."""
        return cls(
            vocab_size=vocab_size,
            sequence_len=depth.sequence_len,
            layers=depth.depth,
            width=depth.width,
            heads=depth.heads,
            kv_heads=depth.kv_heads,
            arch=arch,
        )

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "GPTConfig":
        """The inverse of `to_dict`. Raises KeyError or TypeError for wrong keys, ValueError for wrong values."""
        return cls(**{**record, "arch": Arch(**record["arch"])})


def rotary_tables(length: int, head_dim: int, base: float, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (length, head_dim / 2) float32."""
    frequencies = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads, within the window of its layer."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.window = config.arch.windows(config.layers, config.sequence_len)[layer]
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.c_q = nn.Linear(config.width, self.heads * self.head_dim, bias=False)
        self.c_k = nn.Linear(config.width, self.kv_heads * self.head_dim, bias=False)
        self.c_v = nn.Linear(config.width, self.kv_heads * self.head_dim, bias=False)
        self.c_proj = nn.Linear(self.heads * self.head_dim, config.width, bias=False)
        # The gains on q and k are one factor on their product.
        self.scale = config.arch.qk_gain**2 / math.sqrt(self.head_dim)
        self.ve_gate: nn.Linear | None = None
        if layer in config.arch.value_layers(config.layers):
            self.ve_gate = nn.Linear(VALUE_GATE_WIDTH, self.kv_heads, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, ve: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """(B, T, C) → (B, T, C), after the positions in `cache`, which grows by T.

        `ve` is the layer's value embedding, (B, T, H_kv·D), which is gated and added.
        """
        B, T, _ = x.shape
        q = rotary_norm(self.c_q(x).view(B, T, self.heads, self.head_dim), cos, sin).transpose(1, 2)
        k = rotary_norm(self.c_k(x).view(B, T, self.kv_heads, self.head_dim), cos, sin).transpose(1, 2)
        v = self.c_v(x).view(B, T, self.kv_heads, self.head_dim)
        if self.ve_gate is not None and ve is not None:
            gate = 3.0 * torch.sigmoid(self.ve_gate(x[..., :VALUE_GATE_WIDTH]))
            v = torch.addcmul(v, gate.unsqueeze(-1), ve.view_as(v).to(v.dtype))
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(k, v)
        y = attend(q, k, v, self.window, self.scale)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, -1))
        return out


class MLP(nn.Module):
    """Two projections with ReLU² in between."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        hidden = config.arch.mlp_ratio * config.width
        self.c_fc = nn.Linear(config.width, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        out: Tensor = self.c_proj(relu_squared(self.c_fc(x)))
        return out


class Block(nn.Module):
    """Attention and MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, ve: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        x = x + self.attn(rms_norm(x), cos, sin, ve, cache)
        out: Tensor = x + self.mlp(rms_norm(x))
        return out


class GPT(nn.Module):
    """x = norm(embedding), x0 = x; per block x ← r_i·x + e_i·x0, attention, MLP; final norm, untied head, soft cap.

    Smear comes before x0 is taken: x_t ← x_t + λ_s·σ(W x_t)·x_{t−1}. Backout comes before the final norm: x ← x − λ_b
    times x after block ⌊L/2⌋.

    Weights are arbitrary until `init_weights` or `load_state_dict` is called.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        vocabulary = padded_vocabulary(config.vocab_size)
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        self.resid_lambdas = nn.Parameter(torch.ones(config.layers))  # r
        self.x0_lambdas = nn.Parameter(torch.zeros(config.layers))  # e
        arch = config.arch
        kv_width = config.kv_heads * config.head_dim
        layers = arch.value_layers(config.layers)
        self.value_embedding = nn.ModuleDict({str(i): nn.Embedding(vocabulary, kv_width) for i in layers})
        self.smear_gate = nn.Linear(SMEAR_GATE_WIDTH, 1, bias=False) if arch.smear else None
        self.smear_lambda = nn.Parameter(torch.zeros(1)) if arch.smear else None  # λ_s
        self.backout_lambda = nn.Parameter(torch.zeros(1)) if arch.backout else None  # λ_b
        cos, sin = rotary_tables(config.sequence_len, config.head_dim, config.arch.rotary_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the architecture.

        Embedding N(0, σ), head N(0, 0.001), input projections and value embeddings uniform with standard deviation
        1/√C, output projections 0, gates uniform in [0, 0.02], λ_s 0; σ, the factor on c_fc, r, e and λ_b are those of
        `arch`.
        """
        config, arch = self.config, self.config.arch
        self.embedding.weight.normal_(0.0, arch.embedding_std, generator=generator)
        self.head.weight.normal_(0.0, 0.001, generator=generator)
        bound = math.sqrt(3.0 / config.width)
        for block in self.blocks:
            assert isinstance(block, Block)
            for projection in (block.attn.c_q, block.attn.c_k, block.attn.c_v):
                projection.weight.uniform_(-bound, bound, generator=generator)
            block.mlp.c_fc.weight.uniform_(-bound * arch.fc_gain, bound * arch.fc_gain, generator=generator)
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
        self.resid_lambdas.copy_(torch.linspace(arch.resid_init[0], arch.resid_init[1], config.layers))
        self.x0_lambdas.copy_(torch.linspace(arch.x0_init[0], arch.x0_init[1], config.layers))
        for embedding in self.value_embedding.values():
            assert isinstance(embedding, nn.Embedding)
            embedding.weight.uniform_(-bound, bound, generator=generator)
        for gate in (self.smear_gate, *(block.attn.ve_gate for block in self.blocks)):  # type: ignore[union-attr]
            if isinstance(gate, nn.Linear):
                gate.weight.uniform_(0.0, 0.02, generator=generator)
        if self.smear_lambda is not None:
            self.smear_lambda.zero_()
        if self.backout_lambda is not None:
            self.backout_lambda.fill_(arch.backout_init)

    def new_cache(self) -> Cache:
        """An empty cache with room for `sequence_len` positions."""
        return Cache(self.config.layers, self.config.sequence_len)

    def read_up_to(self, positions: int) -> None:
        """Let the model read so many tokens, where it reads `sequence_len` by default; windows stay as they are."""
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.arch.rotary_base)
        self.cos, self.sin = cos.to(self.cos.device), sin.to(self.sin.device)

    def features(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T) int64 → (B, T, C), the input of the head, after the positions in `cache`, which grows by T.

        Raises ValueError for more positions in all than `read_up_to` set: `sequence_len` by default.
        """
        start = cache.length if cache else 0
        stop = start + tokens.size(1)
        if stop > self.cos.size(0):
            raise ValueError(
                f"the input must have <= model.sequence_len={self.cos.size(0)} tokens, got {stop}; shorten it"
            )
        cos, sin = self.cos[start:stop].unsqueeze(1), self.sin[start:stop].unsqueeze(1)
        x = x0 = self.smear(rms_norm(self.embedding(tokens)), cache)
        halfway = x
        scales = zip(self.resid_lambdas.unbind(), self.x0_lambdas.unbind(), strict=True)
        for i, (block, (r, e)) in enumerate(zip(self.blocks, scales, strict=True)):
            ve = self.value_embedding[str(i)](tokens) if str(i) in self.value_embedding else None
            layer = cache.layers[i] if cache else None
            x = block(mix(x, x0, r, e), cos, sin, ve, layer)
            if i == self.config.layers // 2:
                halfway = x
        if self.backout_lambda is not None:
            x = x - self.backout_lambda * halfway
        return rms_norm(x)

    def smear(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """x_t + λ_s·σ(W x_t)·x_{t−1}, nothing before the first token; (B, T, C) → (B, T, C)."""
        if self.smear_gate is None or self.smear_lambda is None:
            return x
        first = cache.swap_embedding(x[:, -1:]) if cache else None
        # The first token has no predecessor; zeros add nothing.
        first = torch.zeros_like(x[:, :1]) if first is None else first
        gate = self.smear_lambda * torch.sigmoid(self.smear_gate(x[..., :SMEAR_GATE_WIDTH]))
        return torch.addcmul(x, gate.to(x.dtype), torch.cat((first, x[:, :-1]), dim=1))

    def cap(self, logits: Tensor) -> Tensor:
        """Soft-capped logits in float32, without the padding of the vocabulary."""
        limit = self.config.arch.logit_softcap
        return limit * torch.tanh(logits[..., : self.config.vocab_size].float() / limit)

    def logits(self, tokens: Tensor, cache: Cache | None = None, first: int = 0) -> Tensor:
        """(B, T) int64 → (B, T − first, vocab_size) float32, soft-capped, for the positions from `first` on.

        `cache` as in `features`; `first` −1 is the last position only.
        """
        return self.cap(self.head(self.features(tokens, cache)[:, first:]))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar; `tokens` and `targets` (B, T) int64; a target of −1 does not count."""
        return self.loss(self.features(tokens), targets)

    def loss(self, features: Tensor, targets: Tensor, of_slice: SliceLoss = slice_loss) -> Tensor:
        """`forward` from the (B, T, C) result of `features` on; `of_slice` as in `softcap_cross_entropy`."""
        x = features.flatten(0, 1)
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        config = self.config
        cap, vocab_size = config.arch.logit_softcap, config.vocab_size
        return softcap_cross_entropy(x, self.head.weight, targets.flatten(), cap, vocab_size, IGNORE, of_slice)
