"""What every runtime is given, and what it gives back."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from fednano.coordination.settings import Coordination
from fednano.coordination.store import CoordinationStore
from fednano.core import tensors
from fednano.core.clock import Clock
from fednano.core.randomness import named_seed
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.data.loader import Packing, TextSource
from fednano.data.partition import Pools
from fednano.energy.supply import Supply
from fednano.federation.plan import Site
from fednano.federation.planner import Planner
from fednano.federation.round_length import Rounds
from fednano.flower.records import LOSSLESS, Codec
from fednano.flower.virtual_grid import SERVER_NODE_ID
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.shapes import blueprint
from fednano.optim.inner import Optim, blank_state
from fednano.runtime.recipe import Recipe
from fednano.runtime.session import Outcome, Session
from fednano.strategy.base import ServerState, Strategy
from fednano.training.budget import Budget
from fednano.training.checkpoint import Checkpoints, Snapshot
from fednano.training.evaluate import Evaluator, Validation
from fednano.training.hardware import Hardware
from fednano.training.local import LocalTrainer
from fednano.training.recorder import Evaluate, Progress, Recorder, Write, unsaved
from fednano.training.replicas import Replicas
from fednano.volatility.network import Network
from fednano.volatility.profiles import Profile

LEASE_MARGIN = 1.2  # a lease is this much longer than it should need; what is left over is freed at submission
SPARE_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The keys of the configuration that belong to no group.

    Args:
        seed: names every random draw.
        clients: how many there are.
        rounds: how many rounds to run at most, skipped ones included; None: as many as the budget has room for.
        batch_size: B, rows of a client's batch.
        eval_every: rounds between two evaluations.
        eval_tokens: held-out tokens of one evaluation.
        checkpoint_every: rounds between two checkpoints.
        checkpoint_keep: checkpoints that stay, the newest ones.
        budget: what ends the run beside the rounds.
    """

    seed: int
    clients: int
    rounds: int | None
    batch_size: int
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    checkpoint_keep: int
    budget: Budget

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if isinstance(value, int) and key != "seed" and value < 1:
                raise ValueError(f"{key}={value} is too small; use 1 or more")

    @property
    def most_rounds(self) -> int:
        """`rounds`, or more than there will ever be."""
        return sys.maxsize if self.rounds is None else self.rounds

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


class Resumable(Protocol):
    """A trainer, as checkpoints see it: optimizer states by client, seconds inside steps and waiting for batches."""

    @property
    def train_s(self) -> float: ...

    @property
    def data_s(self) -> float: ...

    def states(self) -> Mapping[str, State]: ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All objects of an experiment, built from its configuration."""

    recipe: Recipe
    settings: Settings
    gpt: GPTConfig
    optim: Optim
    strategy: Strategy
    round: Rounds
    planner: Planner
    volatility: Profile
    hardware: Hardware
    network: Network
    energy: Supply
    codec: Codec
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
        """Rows that hold `tokens` tokens with some to spare."""
        return int(LEASE_MARGIN * (tokens + 1) / self.tokens_per_row) + SPARE_ROWS + self.packing.spare_rows

    def site(self, index: int, size: int) -> Site:
        """What the server knows of the client with this index, when messages are `size` bytes long."""
        network = self.network
        up_s = network.up_s(size, index)
        return Site(
            node_id=SERVER_NODE_ID + 1 + index,
            pool=self.pools.of_client[index],
            step_s=self.tokens_per_step / self.hardware.speed(index),
            down_s=network.down_s(size, index),
            up_s=up_s,
            late_s=network.submit_s(size, index) - up_s,
        )

    def first_state(self, resume: Snapshot | None) -> ServerState:
        """The state that is resumed, or the untrained global model, the same for equal seeds."""
        if resume:
            return resume.state
        model = GPT(self.gpt)
        model.init_weights(torch.Generator().manual_seed(named_seed(self.settings.seed, "weights")))
        return ServerState(tensors.clone(model.state_dict()), {})

    def blank_inner(self) -> State:
        """The inner optimizer's state before a first step, where clients average theirs; else nothing."""
        return blank_state(self.optim.build(GPT(self.gpt))) if self.optim.state == "average" else {}

    def parameters(self) -> int:
        """Scalars of the model."""
        return tensors.count(blueprint(self.gpt).state_dict())

    def message_bytes(self) -> int:
        """Bytes that travel each way for a whole model, and for the optimizer's state beside it."""
        return self.codec.size(self.parameters()) + LOSSLESS.size(tensors.count(self.blank_inner()))

    def ledger(self, resume: Snapshot | None = None) -> Ledger:
        """The ledger that is resumed, or one of which all rows are free."""
        return Ledger.from_record(resume.ledger) if resume else Ledger([len(rows) for rows in self.pools.rows])

    def check_resume(self, snapshot: Snapshot) -> None:
        """Raise ValueError unless the checkpoint is of this model and this data."""
        expected = {name: tensor.shape for name, tensor in blueprint(self.gpt).state_dict().items()}
        # The analytic runtime has no weights.
        weights = snapshot.state.weights
        if weights and {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise ValueError(
                f"{snapshot.saved.name} holds another model than model.depth={self.gpt.layers} of config.yaml makes; "
                "restore config.yaml or start anew"
            )
        rows = [pool["size"] for pool in snapshot.ledger["pools"]]
        if rows != [len(rows) for rows in self.pools.rows]:
            raise ValueError(f"data: {snapshot.saved.name} was trained on {sum(rows)} other rows; restore the data")

    def recorder(
        self,
        session: Session,
        clock: Clock,
        trainer: Resumable,
        replicas: Replicas,
        evaluate: Evaluate | None = None,
    ) -> Recorder:
        """Evaluates (on held-out rows unless told how) and saves below the run folder; only the first rank does."""
        settings = self.settings
        progress = replace(session.resume.progress) if session.resume else Progress()
        make = partial(
            Recorder,
            eval_every=settings.eval_every,
            checkpoint_every=settings.checkpoint_every,
            emit=session.emit,
            clock=clock,
            progress=progress,
            # Ranks end together.
            wall_s=lambda: max(replicas.gather(session.wall_s)),
        )
        if replicas.rank:
            return make(evaluate=lambda _: (0.0, 0.0), mark=unsaved)
        checkpoints = Checkpoints(session.folder / "checkpoints", settings.checkpoint_keep)
        # Ranks stop together, which they can agree on at inner steps only.
        check = self.store.check_stop if replicas.world == 1 else _go_on
        evaluator = evaluate or Evaluator(GPT(self.gpt), self.hardware, self.validation, check)

        def mark(
            state: ServerState,
            ledger: Ledger,
            progress: Progress,
            up: Sequence[str],
            leaving: Sequence[str],
            due: bool,
        ) -> Write:
            held = ledger.copy()
            snapshot = Snapshot(
                state=state,
                inner=trainer.states(),
                ledger={},
                progress=replace(progress),
                clock=clock.now(),
                leases=self.store.issued(),
                up=tuple(up),
                leaving=tuple(leaving),
                event_log=session.event_log.mark(),
                due=due,
                wall_s=session.wall_s,
                train_s=trainer.train_s,
                data_s=trainer.data_s,
            )
            return lambda: checkpoints.save(replace(snapshot, ledger=held.to_record()))

        return make(evaluate=evaluator, mark=mark)

    def trainer(self, batch_tokens: int, resume: Snapshot | None, replicas: Replicas, split_rows: bool) -> LocalTrainer:
        """A model of this process and the optimizers of whoever trains in it, for steps of `batch_tokens` tokens."""
        trainer = LocalTrainer(
            model=GPT(self.gpt),
            optim=self.optim,
            hardware=self.hardware,
            batch_tokens=batch_tokens,
            replicas=replicas,
            split_rows=split_rows,
        )
        if resume:
            trainer.restore(resume.inner, resume.train_s, resume.data_s)
            self.store.skip(resume.leases)
        return trainer

    def on_step(self, session: Session, replicas: Replicas) -> Callable[[str, int, int, int, float, int], None]:
        """Shows a step and then heeds a request to stop."""

        def told(client: str, round_index: int, step: int, steps: int, loss: float, tokens: int) -> None:
            session.sink.step(client, round_index, step, steps, loss, tokens)
            replicas.heed(self.store)

        return told


def _go_on() -> None:
    pass


@runtime_checkable
class Runtime(Protocol):
    """A `runtime` choice.

    `shared` is the setting whose value the ranks of torchrun share out evenly; `in_process` says whether all clients
    live in this process.
    """

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError where the other choices do not suit this one."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        """Run the experiment to its end, or to where it is asked to stop or fails; never raises for either."""


class Conducted(Protocol):
    """A `runtime` choice whose run folder is written by another process, which it starts, follows and ends."""

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError where the other choices do not suit this one."""

    def conduct(
        self, folder: Path, name: str, parts: Parts, config: dict[str, Any], resume: Snapshot | None
    ) -> Outcome:
        """Run the experiment called `name` as `Runtime.run` does; `config` is the resolved configuration."""


def versions(names: Iterable[str]) -> dict[str, Any]:
    """Installed versions of distributions."""
    from importlib.metadata import version

    return {name: version(name) for name in names}
