"""What happened, as frozen records.

Reports, audits and tests read these records, never log text. Every record has `t`, seconds on the run's clock. Fields
whose names begin with `wall_` hold wall-clock measurements, which a replay does not repeat.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

WALL_PREFIX = "wall_"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events; `t` in seconds on the run's clock."""

    t: float


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    runtime: str
    strategy: str
    volatility: str
    clients: tuple[str, ...]
    parameters: int
    rounds: int
    local_steps: int
    tokens_per_step: int
    tokens_planned: int
    seed: int
    train_rows: int


@dataclass(frozen=True, kw_only=True)
class ClientUp(Event):
    client: str


@dataclass(frozen=True, kw_only=True)
class ClientDown(Event):
    """`exit`: "drain" (it handed in what it did) or "crash" (what it did since its last hand-in is lost)."""

    client: str
    exit: str


@dataclass(frozen=True, kw_only=True)
class RoundStarted(Event):
    round: int
    version: int
    clients: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LeaseGranted(Event):
    """Rows of `pool`, in order, as spans (row, token, stop).

    A span is the stream rows [row, stop); the first `token` tokens of its first row are already trained. `ahead` holds
    how many steps may be taken before the round's task comes, where any may.
    """

    round: int
    client: str
    lease: int
    pool: int
    spans: tuple[tuple[int, int, int], ...]
    expires: float
    ahead: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeaseReleased(Event):
    """All rows of the lease are free again.

    `reason`: crash, expired, refused, skipped, end; unused (granted ahead, and its work was never asked for).
    """

    round: int
    client: str
    lease: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkDispatched(Event):
    round: int
    client: str
    lease: int
    version: int
    steps: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class UpdateFolded(Event):
    """An update went into the round's accumulator: rows before (`row`, `token`) of its lease are trained by it.

    But for the spans in `left`, (row, token, stop) as in a grant. `ahead` is from when until when the client took steps
    before its task came, where it took any; the others from `busy_from` until `busy_until`.
    """

    round: int
    client: str
    lease: int
    version: int
    steps: int
    tokens: int
    row: int
    token: int
    weight: float
    norm: float
    train_loss: float
    drained: bool
    bytes: int
    busy_from: float
    busy_until: float
    left: tuple[tuple[int, int, int], ...] = ()
    ahead: tuple[float, ...] = ()
    wall_train_s: float = field(default=0.0)
    wall_data_s: float = field(default=0.0)

    @property
    def trained(self) -> tuple[tuple[float, float], ...]:
        """When the client computed, as (from, until)."""
        work = ((self.busy_from, self.busy_until),)
        return ((self.ahead[0], self.ahead[1]), *work) if self.ahead else work

    @property
    def trained_s(self) -> float:
        """Seconds of that."""
        return sum(until - from_ for from_, until in self.trained)


@dataclass(frozen=True, kw_only=True)
class UpdateRefused(Event):
    """`reason`: stale, expired, duplicate, non_finite, malformed, error (the client failed), empty (no step fitted),
    forged (without the lease's token)."""

    round: int
    client: str
    lease: int
    reason: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class RoundMerged(Event):
    """The outer step was taken; the leases in `leases` are done up to their cursors."""

    round: int
    version: int
    leases: tuple[int, ...]
    steps: int
    tokens: int
    tokens_total: int
    norm: float
    train_loss: float
    lr_scale: float
    wall_s: float = field(default=0.0)
    wall_train_s: float = field(default=0.0)
    wall_data_s: float = field(default=0.0)


@dataclass(frozen=True, kw_only=True)
class RoundSkipped(Event):
    """Below quorum: the global model is unchanged and the round's rows are free again."""

    round: int
    updates: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Validation loss in nats per token and bits per byte on the held-out shard."""

    round: int
    version: int
    tokens_total: int
    val_loss: float
    val_bpb: float
    wall_s: float = field(default=0.0)


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    round: int
    version: int
    name: str


@dataclass(frozen=True, kw_only=True)
class ProvisionRequested(Event):
    """A client is to be had or let go. `action`: start, stop."""

    client: str
    action: str


@dataclass(frozen=True, kw_only=True)
class Provisioned(Event):
    """It was had or let go, at the `attempts`-th attempt."""

    client: str
    action: str
    attempts: int
    wall_s: float = field(default=0.0)


@dataclass(frozen=True, kw_only=True)
class ProvisionFailed(Event):
    """All attempts failed; `cause` is that of the last one: the command, how it ended, its last line."""

    client: str
    action: str
    attempts: int
    cause: str
    wall_s: float = field(default=0.0)


@dataclass(frozen=True, kw_only=True)
class SignalLost(Event):
    """What says whether clients are to be up has not answered for too long: they count as down."""

    clients: tuple[str, ...]
    cause: str


@dataclass(frozen=True, kw_only=True)
class ChaosEnacted(Event):
    """What was done to a live node. `action`: start, drain, reclaim, kill, pause, resume, cut, mend, slow.

    `value` is the share of its speed that a node is slowed to, 1 for everything else.
    """

    client: str
    action: str
    value: float


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """`status`: completed, interrupted, failed."""

    status: str
    rounds: int
    tokens_total: int


EVENTS: dict[str, type[Event]] = {cls.__name__: cls for cls in Event.__subclasses__()}


def finite(value: Any) -> Any:
    """`value` with None for every number in it that JSON cannot hold: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
