"""What every runtime is given, and what it gives back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from fednano import tensors
from fednano.clock import Clock
from fednano.coordination.board import Board
from fednano.data.ledger import Ledger
from fednano.data.loader import Packing, TextSource
from fednano.data.partition import Pools
from fednano.events import Event, Tape
from fednano.flower.records import Codec
from fednano.model.gpt import GPT, GPTConfig
from fednano.optim.inner import Optim
from fednano.randomness import named_seed
from fednano.report.sinks import Sink
from fednano.strategy.base import ServerState, Strategy
from fednano.training.checkpoint import Checkpoints
from fednano.training.evaluate import Evaluator, Validation
from fednano.training.hardware import Hardware
from fednano.training.local import LocalTrainer
from fednano.training.recorder import Progress, Recorder
from fednano.volatility.network import Network
from fednano.volatility.profiles import Profile

LEASE_MARGIN = 1.2  # a lease is this much longer than it should need; what is left over is freed at hand-in
SPARE_ROWS = 8


@dataclass(frozen=True)
class Settings:
    """The keys of the configuration that belong to no group.

    Args:
        seed: names every random draw.
        clients: how many there are.
        rounds: how many rounds to run, skipped ones included.
        batch_size: B, rows of a client's batch.
        eval_every: rounds between two evaluations.
        eval_tokens: held-out tokens of one evaluation.
        checkpoint_every: rounds between two checkpoints.
        checkpoint_keep: checkpoints that stay, the newest ones.
    """

    seed: int
    clients: int
    rounds: int
    batch_size: int
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    checkpoint_keep: int

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if key != "seed" and value < 1:
                raise ValueError(f"{key}={value} is too small; use 1 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """The clients' names, sorted as they count."""
        digits = len(str(self.clients - 1))
        return tuple(f"client_{i:0{digits}d}" for i in range(self.clients))


class TokenizerLike(Protocol):
    """What a run needs of a tokenizer."""

    @property
    def bos_id(self) -> int: ...

    def token_lengths(self) -> np.typing.NDArray[np.int32]: ...

    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class Session:
    """Where a run's events go: on the tape, and to everyone who shows them."""

    folder: Path
    tape: Tape
    sink: Sink

    def emit(self, event: Event) -> None:
        self.tape.append(event)
        self.sink.event(event)


@dataclass(frozen=True)
class Parts:
    """All objects of an experiment, built from its configuration."""

    settings: Settings
    gpt: GPTConfig
    optim: Optim
    strategy: Strategy
    volatility: Profile
    hardware: Hardware
    network: Network
    codec: Codec
    pools: Pools
    packing: Packing
    source: TextSource
    validation: Validation
    tokenizer: TokenizerLike
    board: Board
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
        """Rows that hold `tokens` tokens with some to spare."""
        return int(LEASE_MARGIN * (tokens + 1) / self.tokens_per_row) + SPARE_ROWS + self.packing.spare_rows

    def initial_state(self) -> ServerState:
        """The untrained global model, the same for equal seeds."""
        model = GPT(self.gpt)
        model.init_weights(torch.Generator().manual_seed(named_seed(self.settings.seed, "weights")))
        return ServerState(tensors.clone(model.state_dict()), {})

    def new_ledger(self) -> Ledger:
        return Ledger([len(rows) for rows in self.pools.rows])

    def recorder(self, session: Session, clock: Clock) -> Recorder:
        """Evaluates on the held-out shard and saves below the run folder."""
        settings = self.settings
        checkpoints = Checkpoints(session.folder / "checkpoints", settings.checkpoint_keep)
        evaluator = Evaluator(GPT(self.gpt), self.hardware, self.validation, self.board.check_stop)
        return Recorder(
            settings.eval_every,
            settings.checkpoint_every,
            evaluator,
            checkpoints.save,
            session.emit,
            clock,
            Progress(),
        )

    def trainer(self, batch_tokens: int) -> LocalTrainer:
        """A model of this process and the optimizers of whoever trains in it, for steps of `batch_tokens` tokens."""
        return LocalTrainer(GPT(self.gpt), self.optim, self.hardware, batch_tokens)

    def on_step(self, session: Session) -> Callable[[str, int, int, int, float, int], None]:
        """Shows a step and then heeds a request to stop."""

        def told(client: str, round_index: int, step: int, steps: int, loss: float, tokens: int) -> None:
            session.sink.step(client, round_index, step, steps, loss, tokens)
            self.board.check_stop()

        return told


Status = Literal["completed", "interrupted", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What a runtime measured. None where it cannot."""

    status: Status
    strategy: str | None
    state: ServerState
    progress: Progress
    clients: int
    rows: dict[str, int]
    train_s: float
    data_s: float
    virtual_s: float | None
    goodput: float | None
    error: Exception | None = None


class Runtime(Protocol):
    """A `runtime` choice."""

    name: str

    def run(self, parts: Parts, session: Session) -> Outcome:
        """Run the experiment to its end, or to where it is asked to stop or fails; never raises for either."""


def versions(names: Iterable[str]) -> dict[str, Any]:
    """Installed versions of distributions."""
    from importlib.metadata import version

    return {name: version(name) for name in names}
