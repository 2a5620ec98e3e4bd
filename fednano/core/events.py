"""Events of a run, as frozen records.

Reports, audits and tests read these records, never log text. Every record has `t`, seconds on the run's clock. Fields
whose names begin with `wall_` hold wall-clock measurements, which differ in a replay.
"""

from math import isfinite
from typing import Any

from msgspec import Struct

WALL_PREFIX = "wall_"
CAUSE_CHARS = 200
FORMAT = 2  # the newest form of the event log


class Event(Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True, gc=False):
    """Base of all events; `t` in seconds on the run's clock."""

    t: float


class RunStarted(Event, frozen=True, kw_only=True):
    """`format` is 2 if updates may be merged in later rounds than that of their work, or are of fragments.

    `unit` is what `rounds` are called: merge where clients never wait for one, round otherwise.
    """

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
    unit: str = "round"
    format: int = 1


class ClientUp(Event, frozen=True, kw_only=True):
    client: str


class ClientDown(Event, frozen=True, kw_only=True):
    """`exit`: "drain" (the client submitted its work) or "crash" (its work since the last submission is lost)."""

    client: str
    exit: str


class RoundStarted(Event, frozen=True, kw_only=True):
    """`clients` are up; empty where a round is one merge of many, since the log would be of little else."""

    round: int
    version: int
    clients: tuple[str, ...] = ()


class LeaseGranted(Event, frozen=True, kw_only=True):
    """Rows of `pool`, in order, as spans (row, token, stop).

    A span is the stream rows [row, stop); the first `token` tokens of its first row are already trained. `ahead` holds
    the number of overlapped steps that the client may take before the round's task comes; empty if none.
    """

    round: int
    client: str
    lease: int
    pool: int
    spans: tuple[tuple[int, int, int], ...]
    expires: float
    ahead: tuple[int, ...] = ()


class LeaseReleased(Event, frozen=True, kw_only=True):
    """All rows of the lease are free again.

    `reason`: crash, expired, refused, skipped, end; unused (granted for overlapped steps that no task asked for).
    """

    round: int
    client: str
    lease: int
    reason: str


class WorkDispatched(Event, frozen=True, kw_only=True):
    round: int
    client: str
    lease: int
    version: int
    steps: int
    bytes: int


class UpdateFolded(Event, frozen=True, kw_only=True):
    """An update was accumulated in its round: it trained the rows of its lease before (`row`, `token`).

    The spans in `left`, (row, token, stop) as in a grant, are not trained. `ahead` is (from, until) of the overlapped
    steps, empty if there were none; all other steps were taken from `busy_from` until `busy_until`. `clip` is the
    factor by which the guard shortened the update to `norm`; None if it did not. `fragment` is the one that it is of;
    None: it is of the whole model.
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
    clip: float | None = None
    fragment: int | None = None
    wall_train_s: float = 0.0
    wall_data_s: float = 0.0

    @property
    def trained(self) -> tuple[tuple[float, float], ...]:
        """When the client computed, as (from, until)."""
        work = (self.busy_from, self.busy_until)
        return ((self.ahead[0], self.ahead[1]), work) if self.ahead else (work,)

    @property
    def trained_s(self) -> float:
        """Seconds for which the client computed."""
        work = self.busy_until - self.busy_from
        return (self.ahead[1] - self.ahead[0]) + work if self.ahead else work


class UpdateRefused(Event, frozen=True, kw_only=True):
    """The server refused an update.

    `reason`: stale, expired, duplicate, non_finite, malformed, implausible (figures that cannot be true), outlying
    (beyond the guard's limit), error (the client failed), empty (no step fitted), forged (without the lease's token).
    `cause` says what is wrong with a malformed, implausible or outlying update, and what a client that failed says of
    it; at most `CAUSE_CHARS`, all printable.
    """

    round: int
    client: str
    lease: int
    reason: str
    bytes: int
    cause: str = ""


class RoundMerged(Event, frozen=True, kw_only=True):
    """The outer step was taken; the rows of `leases` are done up to their cursors.

    `wall_run_s` is wall-clock time since the run began, without the time between an end and a resume; 0 in the event
    logs of earlier versions.
    """

    round: int
    version: int
    leases: tuple[int, ...]
    steps: int
    tokens: int
    tokens_total: int
    norm: float
    train_loss: float
    lr_scale: float
    wall_s: float = 0.0
    wall_train_s: float = 0.0
    wall_data_s: float = 0.0
    wall_run_s: float = 0.0


class RoundSkipped(Event, frozen=True, kw_only=True):
    """The round missed its quorum: the global model is unchanged and the round's rows are free again."""

    round: int
    updates: int
    reason: str


class Evaluated(Event, frozen=True, kw_only=True):
    """Validation loss in nats per token and bits per byte on the held-out shard; `wall_run_s` as of a merge."""

    round: int
    version: int
    tokens_total: int
    val_loss: float
    val_bpb: float
    wall_s: float = 0.0
    wall_run_s: float = 0.0


class CheckpointSaved(Event, frozen=True, kw_only=True):
    round: int
    version: int
    name: str


class ProvisionRequested(Event, frozen=True, kw_only=True):
    """A client should be provisioned or released. `action`: start, stop."""

    client: str
    action: str


class Provisioned(Event, frozen=True, kw_only=True):
    """A client was provisioned or released, at the `attempts`-th attempt."""

    client: str
    action: str
    attempts: int
    wall_s: float = 0.0


class ProvisionFailed(Event, frozen=True, kw_only=True):
    """All attempts failed; `cause` describes the last one: the command, how it ended, and its last line."""

    client: str
    action: str
    attempts: int
    cause: str
    wall_s: float = 0.0


class SignalLost(Event, frozen=True, kw_only=True):
    """The signal for these clients has not answered for too long: they count as down."""

    clients: tuple[str, ...]
    cause: str


class ChaosEnacted(Event, frozen=True, kw_only=True):
    """An action on a live node. `action`: start, drain, reclaim, kill, pause, resume, cut, mend, slow.

    `value` is the share of its speed that a node is slowed to, 1 for everything else.
    """

    client: str
    action: str
    value: float


class RunEnded(Event, frozen=True, kw_only=True):
    """`status`: completed, interrupted, failed."""

    status: str
    rounds: int
    tokens_total: int


EVENTS: dict[str, type[Event]] = {cls.__name__: cls for cls in Event.__subclasses__()}


def as_cause(text: str) -> str:
    """Text of a stranger in one printable line of at most `CAUSE_CHARS` characters."""
    return "".join(c if c.isprintable() else " " for c in text[:CAUSE_CHARS]).strip()


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot represent: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
