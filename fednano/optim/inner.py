"""Inner optimizers: the optimizer of one client, its parameter groups and learning rates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from fednano.core.ranges import MOST, Range
from fednano.core.tensors import State
from fednano.model.gpt import GPT
from fednano.model.scaling import REFERENCE_BATCH, batch_lr_scale, width_lr_scale
from fednano.optim.grouped import FusedAdamW, Grouped
from fednano.optim.muon import POLAR_EXPRESS, Muon
from fednano.optim.schedule import Schedule, Trapezoid

StatePolicy = Literal["keep", "reset", "average"]


class InnerOptimizer:
    """One or more optimizers over one model, stepped together under a common learning-rate scale.

    Args:
        parts: the optimizers.
        clip: the largest norm of all gradients together; None: any.
    """

    def __init__(self, *parts: Grouped, clip: float | None = None) -> None:
        self.parts = parts
        self._clip = clip
        self._base = [[group["lr"] for group in part.param_groups] for part in parts]

    def step(self, lr_scale: float) -> None:
        """Clip and apply the gradients at `lr_scale` times the configured learning rates, then clear them."""
        if self._clip is not None:
            # The norm stays on the device: nothing waits for it.
            clip_grad_norm_([parameter for part in self.parts for parameter in _parameters(part)], self._clip)
        for part, rates in zip(self.parts, self._base, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * lr_scale
            part.step()
            part.zero_grad()

    def compile(self) -> None:
        """Compile what torch.compile makes faster: Muon's arithmetic. AdamW is one kernel already."""
        for part in self.parts:
            if isinstance(part, Muon):
                part.compile()

    def state(self) -> State:
        """The state kept between steps, not copied. Names are PART.PARAMETER.KEY, such as 1.4.exp_avg."""
        return {
            f"{i}.{j}.{key}": value
            for i, part in enumerate(self.parts)
            for j, parameter in enumerate(_parameters(part))
            for key, value in part.state.get(parameter, {}).items()
        }

    def load(self, state: State) -> None:
        """Replace the kept state by a copy of `state`, bit for bit."""
        held = [list(_parameters(part)) for part in self.parts]
        for part in self.parts:
            part.state.clear()
        for name, value in state.items():
            i, j, key = name.split(".", 2)
            parameter = held[int(i)][int(j)]
            self.parts[int(i)].state[parameter][key] = value.to(parameter.device, copy=True)


def is_count(name: str) -> bool:
    """Whether a name of an `InnerOptimizer.state` is a count of steps, which cannot be averaged."""
    return name.endswith(".step")


def is_square(name: str) -> bool:
    """Whether a name of an `InnerOptimizer.state` is a running mean of squares, which is never negative."""
    return name.endswith((".exp_avg_sq", ".variance"))


def blank_state(optimizer: InnerOptimizer) -> State:
    """The state that `optimizer` will keep, as zeros on the CPU. The optimizer cannot be used afterwards."""
    for part in optimizer.parts:
        for parameter in _parameters(part):
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.0)
    return {name: torch.zeros_like(value, device="cpu") for name, value in optimizer.state().items()}


def _parameters(part: Grouped) -> Iterator[Tensor]:
    return (parameter for group in part.param_groups for parameter in group["params"])


class Optim(Protocol):
    """An `optim` choice: settings that build an optimizer for a model."""

    state: StatePolicy
    schedule: Schedule

    def build(self, model: GPT, batch_tokens: int = REFERENCE_BATCH) -> InnerOptimizer:
        """A fresh optimizer over the model's parameters, for steps of `batch_tokens` tokens."""


def _check(
    settings: "AdamW | MuonAdamW", rates: tuple[str, ...], decays: tuple[str, ...], betas: tuple[str, ...]
) -> None:
    for key in rates:
        value = getattr(settings, key)
        if not value > 0:
            raise ValueError(f"optim.{key} must be > 0, got {value}; a learning rate of 0 trains nothing")
    if settings.state not in get_args(StatePolicy):
        raise ValueError(
            f"optim.state must be keep (over rounds), reset (every round) or average (over the clients), got "
            f"{settings.state}; choose one of them"
        )
    for key in decays:
        value = getattr(settings, key)
        if not value >= 0:
            raise ValueError(f"optim.{key} must be >= 0, got {value}; 0 means no decay")
    if settings.clip is not None and not settings.clip > 0:
        raise ValueError(f"optim.clip must be > 0, got {settings.clip}; use such a norm, or null to clip nothing")
    for key in betas:
        pair = tuple(getattr(settings, key))
        if len(pair) != 2 or not all(0.0 <= beta < 1.0 for beta in pair):
            raise ValueError(f"optim.{key} must be two decays >= 0 and < 1, got {list(pair)}; use such as [0.9, 0.95]")
        object.__setattr__(settings, key, pair)


def _gates(model: GPT) -> list[Tensor]:
    """The small parameters other than the scales r and e: the smear's gate and share, and the backout's share."""
    gate = None if model.smear_gate is None else model.smear_gate.weight
    return [p for p in (gate, model.smear_lambda, model.backout_lambda) if p is not None]


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW throughout.

    Args:
        lr: learning rate of the blocks and the head.
        embedding_lr: learning rate of the embedding and the value embeddings, whose entries are of order 1.
        scalar_lr: learning rate of the residual scales, the smear and the backout.
        betas: decays of the two moments.
        weight_decay: decoupled weight decay of the matrices of the blocks only.
        clip: the largest norm of a step's gradient, over all parameters together; None: any.
        state: what a client does with the optimizer's state between rounds.
        schedule: factor on every rate by global tokens.
    """

    lr: float = 2e-3
    embedding_lr: float = 2e-2
    scalar_lr: float = 5e-3
    betas: tuple[float, ...] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: Annotated[float, Range(le=MOST)] | None = None
    state: StatePolicy = "keep"
    schedule: Schedule = field(default_factory=Trapezoid)

    def __post_init__(self) -> None:
        _check(self, ("lr", "embedding_lr", "scalar_lr"), ("weight_decay",), ("betas",))

    def build(self, model: GPT, batch_tokens: int = REFERENCE_BATCH) -> InnerOptimizer:
        embeddings = [model.embedding.weight, *model.value_embedding.parameters()]
        scalars = [model.resid_lambdas, model.x0_lambdas, *_gates(model)]
        groups = [
            _group(list(model.blocks.parameters()), self.lr, self.betas, self.weight_decay),
            _group([model.head.weight], self.lr, self.betas),
            _group(embeddings, self.embedding_lr, self.betas),
            _group(scalars, self.scalar_lr, self.betas),
        ]
        return InnerOptimizer(_adamw(groups), clip=self.clip)


@dataclass(frozen=True, kw_only=True)
class MuonAdamW:
    """Muon for the matrices of the blocks, AdamW for embeddings, head and scalars.

    Args:
        matrix_lr: Muon's learning rate.
        embedding_lr: AdamW's learning rate of the embedding at width 768; scaled by (C/768)^−½.
        value_embedding_lr: that of the value embeddings, scaled in the same way.
        head_lr: that of the head, scaled in the same way.
        scalar_lr: AdamW's learning rate of the residual scales r.
        x0_lr: AdamW's learning rate of the scales e, of the embedding's share in each layer.
        gate_lr: AdamW's learning rate of smear and backout.
        momentum: Muon's momentum.
        newton_schulz_steps: iterations of the orthogonalisation, also of the Polar Express.
        polar_express: orthogonalise by the Polar Express instead of Newton-Schulz.
        equilibrate: whether to scale the rows of Muon's momentum to one norm before the orthogonalisation.
        variance_beta: decay of NorMuon's variance; 0 turns it off.
        cautious: whether to decay an entry of a matrix only where the step shrinks it too.
        betas: AdamW's decays of the two moments, except where given below.
        head_betas: those of the head.
        embedding_betas: those of the embedding and the value embeddings.
        x0_betas: those of the scales e.
        weight_decay: decoupled weight decay of the matrices of the blocks.
        head_decay: decoupled weight decay of the head.
        embedding_decay: decoupled weight decay of the embedding.
        value_embedding_decay: decoupled weight decay of the value embeddings.
        scalar_decay: decoupled weight decay of the residual scales r.
        scale_with_batch: whether all learning rates hold for steps of 2¹⁹ tokens and scale with the root of the batch.
        clip: the largest norm of a step's gradient, over all parameters together; None: any.
        state: what a client does with the optimizer's state between rounds.
        schedule: factor on every rate by global tokens.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    matrix_lr: float = 0.02
    embedding_lr: float = 0.2
    value_embedding_lr: float = 0.1
    head_lr: float = 0.004
    scalar_lr: float = 0.005
    x0_lr: float = 0.005
    gate_lr: float = 0.2
    momentum: float = 0.95
    newton_schulz_steps: int = 5
    polar_express: bool = False
    equilibrate: bool = False
    variance_beta: float = 0.0
    cautious: bool = False
    betas: tuple[float, ...] = (0.8, 0.95)
    head_betas: tuple[float, ...] = (0.8, 0.95)
    embedding_betas: tuple[float, ...] = (0.8, 0.95)
    x0_betas: tuple[float, ...] = (0.8, 0.95)
    weight_decay: float = 0.0
    head_decay: float = 0.0
    embedding_decay: float = 0.0
    value_embedding_decay: float = 0.0
    scalar_decay: float = 0.0
    scale_with_batch: bool = False
    clip: Annotated[float, Range(le=MOST)] | None = None
    state: StatePolicy = "keep"
    schedule: Schedule = field(default_factory=Trapezoid)

    def __post_init__(self) -> None:
        rates = ("matrix_lr", "embedding_lr", "value_embedding_lr", "head_lr", "scalar_lr", "x0_lr", "gate_lr")
        decays = ("weight_decay", "head_decay", "embedding_decay", "value_embedding_decay", "scalar_decay")
        _check(self, rates, decays, ("betas", "head_betas", "embedding_betas", "x0_betas"))
        for key in ("momentum", "variance_beta"):
            value = getattr(self, key)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"optim.{key} must be >= 0 and < 1, got {value}; a factor of 1 would never forget")
        steps = self.newton_schulz_steps
        if steps < 1:
            raise ValueError(f"optim.newton_schulz_steps must be >= 1, got {steps}; 5 is usual")
        if self.polar_express and steps > len(POLAR_EXPRESS):
            raise ValueError(
                f"optim.newton_schulz_steps must be <= {len(POLAR_EXPRESS)} under optim.polar_express=true, got "
                f"{steps}; lower it or use optim.polar_express=false"
            )

    def build(self, model: GPT, batch_tokens: int = REFERENCE_BATCH) -> InnerOptimizer:
        batch = batch_lr_scale(batch_tokens) if self.scale_with_batch else 1.0
        width = batch * width_lr_scale(model.config.width)
        values = list(model.value_embedding.parameters())
        embedding_betas = self.embedding_betas
        groups = [
            _group([model.head.weight], self.head_lr * width, self.head_betas, self.head_decay),
            _group([model.embedding.weight], self.embedding_lr * width, embedding_betas, self.embedding_decay),
            _group(values, self.value_embedding_lr * width, embedding_betas, self.value_embedding_decay),
            _group([model.resid_lambdas], self.scalar_lr * batch, self.betas, self.scalar_decay),
            _group([model.x0_lambdas], self.x0_lr * batch, self.x0_betas),
            _group(_gates(model), self.gate_lr * batch, self.betas),
        ]
        muon = Muon(
            model.blocks.parameters(),
            self.matrix_lr * batch,
            self.momentum,
            self.weight_decay,
            self.newton_schulz_steps,
            polar=self.polar_express,
            equilibrated=self.equilibrate,
            beta2=self.variance_beta,
            cautious=self.cautious,
        )
        return InnerOptimizer(muon, _adamw(groups), clip=self.clip)


def _group(params: Sequence[Tensor], lr: float, betas: tuple[float, ...], weight_decay: float = 0.0) -> dict[str, Any]:
    return {"params": list(params), "lr": lr, "betas": betas, "weight_decay": weight_decay}


def _adamw(groups: list[dict[str, Any]]) -> FusedAdamW:
    return FusedAdamW([g for g in groups if g["params"]])
