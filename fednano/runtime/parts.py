"""The parts of an experiment, built from its configuration."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np

from fednano.codec.pair import CodecPair
from fednano.coordination.settings import Coordination
from fednano.coordination.store import CoordinationStore
from fednano.core import tensors
from fednano.core.ranges import Range
from fednano.data.loader import Packing, TextSource
from fednano.data.partition import Pools
from fednano.energy.supply import Supply
from fednano.federation.guard import Guard
from fednano.federation.plan import Site
from fednano.federation.planner import Planner
from fednano.federation.round_length import Rounds
from fednano.federation.transport import MessageBytes
from fednano.flower.virtual_grid import SERVER_NODE_ID
from fednano.model.gpt import GPTConfig
from fednano.model.shapes import blueprint
from fednano.optim.inner import Optim
from fednano.runtime.recipe import Recipe
from fednano.strategy.base import Strategy
from fednano.training.budget import Budget
from fednano.training.evaluate import Validation
from fednano.training.hardware import Hardware
from fednano.volatility.network import Network
from fednano.volatility.profiles import Profile

LEASE_MARGIN = 1.2  # factor by which a lease exceeds the expected rows; unused rows are freed at submission
SPARE_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The configuration keys that belong to no group.

    Args:
        seed: seed of every random draw.
        clients: number of clients.
        rounds: most rounds, including skipped ones; None: until the budget is used up.
        batch_size: B, sequences in a client's batch.
        eval_every: rounds between two evaluations.
        eval_tokens: held-out tokens of one evaluation.
        checkpoint_every: rounds between two checkpoints.
        checkpoint_keep: number of newest checkpoints to keep.
        budget: limits that end the run before its rounds do.
    """

    seed: int
    clients: Annotated[int, Range(ge=1, le=100_000)]
    rounds: Annotated[int, Range(ge=1)] | None
    batch_size: Annotated[int, Range(ge=1, le=10**9)]
    eval_every: Annotated[int, Range(ge=1)]
    eval_tokens: Annotated[int, Range(ge=1)]
    checkpoint_every: Annotated[int, Range(ge=1)]
    checkpoint_keep: Annotated[int, Range(ge=1)]
    budget: Budget

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if isinstance(value, int) and key != "seed" and value < 1:
                raise ValueError(f"{key} must be >= 1, got {value}; use 1 or more")

    @property
    def most_rounds(self) -> int:
        """`rounds`, or a number that no run reaches if `rounds` is None."""
        return sys.maxsize if self.rounds is None else self.rounds

    @property
    def names(self) -> tuple[str, ...]:
        """The clients' names, in order of their index; sorting them as strings keeps that order."""
        digits = len(str(self.clients - 1))
        return tuple(f"client_{i:0{digits}d}" for i in range(self.clients))


class TokenizerLike(Protocol):
    """The interface of a tokenizer that a run needs."""

    @property
    def bos_id(self) -> int: ...

    def token_lengths(self) -> np.typing.NDArray[np.int32]: ...

    def save(self, path: Path) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All objects of an experiment, built from its configuration."""

    recipe: Recipe
    settings: RunSettings
    gpt: GPTConfig
    optim: Optim
    strategy: Strategy
    round: Rounds
    planner: Planner
    guard: Guard
    volatility: Profile
    hardware: Hardware
    network: Network
    energy: Supply
    codecs: CodecPair
    pools: Pools
    packing: Packing
    source: TextSource
    validation: Validation
    tokenizer: TokenizerLike
    store: CoordinationStore
    coordination: Coordination
    tokens_per_row: float

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return self.settings.batch_size, self.gpt.sequence_len

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one client's inner step."""
        return self.shape[0] * self.shape[1]

    def rows_for(self, pool: int, tokens: int) -> int:
        """Number of rows that hold `tokens` tokens, with a margin."""
        return int(LEASE_MARGIN * (tokens + 1) / self.tokens_per_row) + SPARE_ROWS + self.packing.spare_rows

    def site(self, index: int, size: MessageBytes) -> Site:
        """What the server knows about the client with this index if messages have `size` bytes."""
        network = self.network
        up_s = network.up_s(size.up, index)
        return Site(
            node_id=SERVER_NODE_ID + 1 + index,
            pool=self.pools.of_client[index],
            step_s=self.tokens_per_step / self.hardware.speed(index),
            down_s=network.down_s(size.down, index),
            up_s=up_s,
            late_s=network.submit_s(size.up, index) - up_s,
        )

    def sites(self, size: MessageBytes) -> dict[str, Site]:
        """What the server knows about every client, by name."""
        return {client: self.site(i, size) for i, client in enumerate(self.settings.names)}

    def parameters(self) -> int:
        """Number of scalars in the model."""
        return tensors.count(blueprint(self.gpt).state_dict())
