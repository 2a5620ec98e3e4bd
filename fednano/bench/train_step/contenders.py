"""The contenders: fednano, and nanochat from a checkout. Both start from the same weights and batch."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import MuonAdamW
from fednano.training.hardware import Hardware
from fednano.training.local import compile_model


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The setting that every contender gets, sent as JSON.

    `optim` holds values of `MuonAdamW`; `weights` is the file of the initial weights.
    """

    depth: int
    batch_size: int
    sequence_len: int
    vocab_size: int
    dtype: str
    threads: int
    compiled: bool
    weights: str
    optim: dict[str, Any]
    nanochat: str = ""
    device: str = "cpu"
    deterministic: bool = False

    @property
    def config(self) -> GPTConfig:
        return GPTConfig.derive(Depth(self.depth, self.sequence_len), NANOCHAT, self.vocab_size)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Tokens and targets on the device, each (B, T) int64."""
        draw = torch.Generator().manual_seed(1)
        tokens = torch.randint(0, self.vocab_size, (self.batch_size, self.sequence_len), generator=draw)
        return tokens.to(self.device), tokens.roll(-1, dims=1).to(self.device)

    @property
    def hardware(self) -> Hardware:
        return Hardware(
            name="bench",
            device=self.device,
            threads=self.threads,
            dtype=self.dtype,  # type: ignore[arg-type]
            compile=self.compiled,
            tokens_per_s=(1.0,),
            deterministic=self.deterministic,
        )


class StepContender(Protocol):
    """A model with its optimizer."""

    blocks: list[nn.Module]

    def loss(self, tokens: Tensor, targets: Tensor, *, eager: bool = False) -> Tensor:
        """The forward pass; a scalar. `eager` leaves the compiler out, as for a size that is tried once."""

    def update(self) -> None:
        """Apply the gradients and clear them."""


class Fednano:
    """fednano's model and optimizer, as in `LocalTrainer`."""

    def __init__(self, setting: Setting) -> None:
        self._hardware = setting.hardware
        device = self._hardware.use()
        self._hardware.repeat_exactly()
        model = GPT(setting.config).to(device)
        model.load_state_dict(torch.load(setting.weights))
        self.blocks: list[nn.Module] = list(model.blocks)
        self._optimizer = MuonAdamW(**setting.optim).build(model)
        if setting.compiled and device.type != "cpu":
            self._optimizer.compile()
        self._eager: Callable[..., Tensor] = model
        self._forward = compile_model(model) if setting.compiled else model

    def loss(self, tokens: Tensor, targets: Tensor, *, eager: bool = False) -> Tensor:
        with self._hardware.autocast():
            return (self._eager if eager else self._forward)(tokens, targets)

    def update(self) -> None:
        with self._hardware.autocast_step():
            self._optimizer.step(1.0)


class Nanochat:
    """nanochat's model and optimizer, imported from a checkout, with its own choice of attention (SDPA on CPU)."""

    def __init__(self, setting: Setting) -> None:
        os.environ["NANOCHAT_DTYPE"] = setting.dtype
        sys.path.insert(0, setting.nanochat)
        from nanochat import gpt

        ours = setting.config
        # Standard output is for the process's answers.
        with redirect_stdout(sys.stderr):
            model = gpt.GPT(
                gpt.GPTConfig(
                    sequence_len=ours.sequence_len,
                    vocab_size=ours.vocab_size,
                    n_layer=ours.layers,
                    n_head=ours.heads,
                    n_kv_head=ours.kv_heads,
                    n_embd=ours.width,
                    window_pattern=ours.arch.window_pattern,
                )
            )
            model.init_weights()
            model.load_state_dict(renamed(torch.load(setting.weights)))
            model.to(setting.device)
            self._optimizer = model.setup_optimizer(weight_decay=setting.optim["weight_decay"])
        self._model = model
        self.blocks = list(model.transformer.h)
        self._forward = torch.compile(model, dynamic=False) if setting.compiled else model

    def loss(self, tokens: Tensor, targets: Tensor, *, eager: bool = False) -> Tensor:
        loss: Tensor = (self._model if eager else self._forward)(tokens, targets)
        return loss

    def update(self) -> None:
        self._optimizer.step()
        self._model.zero_grad(set_to_none=True)


PREFIXES = {
    "embedding.": "transformer.wte.",
    "blocks.": "transformer.h.",
    "head.": "lm_head.",
    "value_embedding.": "value_embeds.",
}


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fednano's weights under nanochat's names."""

    def name(ours: str) -> str:
        return next((theirs + ours[len(own) :] for own, theirs in PREFIXES.items() if ours.startswith(own)), ours)

    return {name(ours): tensor for ours, tensor in weights.items()}


CONTENDERS: dict[str, Callable[[Setting], StepContender]] = {"fednano": Fednano, "nanochat": Nanochat}


def checked_checkout(path: Path) -> Path:
    """The absolute path of a checkout. Raises ValueError if `path` is not one."""
    if not (path / "nanochat" / "gpt.py").is_file():
        raise ValueError(f"--nanochat must hold nanochat/gpt.py, got {path}; name a checkout of nanochat")
    return path.resolve()
