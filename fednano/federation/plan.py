"""The fixed plan of a run, and the state of the round in progress."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from fednano.coordination.store import Lease
from fednano.core.events import UpdateFolded
from fednano.core.tensors import State
from fednano.federation.fragments.slices import Accumulators
from fednano.federation.guard import Guard, Unguarded
from fednano.federation.planner import Blind, Planner
from fednano.federation.round_length import Rounds
from fednano.strategy.mean import WeightedMean
from fednano.training.budget import Budget

STEPS, BLIND, UNLIMITED, UNGUARDED = Rounds(), Blind(), Budget(), Unguarded()


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the server knows of a client: its node, its pool, and seconds per inner step and per transfer.

    95 of 100 transfers are at most `late_s` seconds late.
    """

    node_id: int
    pool: int
    step_s: float
    down_s: float
    up_s: float
    late_s: float = 0.0

    @property
    def transfers_s(self) -> float:
        """Seconds of both transfers of a round when neither is late."""
        return self.down_s + self.up_s

    def duration(self, steps: int) -> float:
        """Seconds from dispatch to submission of `steps` steps."""
        return self.down_s + steps * self.step_s + self.up_s

    def window_s(self, seconds: float) -> float:
        """Seconds left for steps out of `seconds`, after two transfers that may be late."""
        return seconds - self.transfers_s - 2 * self.late_s

    def steps_in(self, seconds: float) -> float:
        """Whole steps that fit into `seconds` of work, tolerant of rounding errors."""
        return seconds if math.isinf(seconds) else math.floor(seconds / self.step_s + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The constants of a run.

    Args:
        rounds: how many rounds to run at most, skipped ones included.
        tokens_per_step: B·T of one client.
        horizon: global tokens at which learning-rate schedules end.
        lr_scale: the schedule, (tokens, horizon) → factor.
        rows_for: (pool, tokens) → rows that hold about that many.
        length: how long rounds are.
        planner: knows the ends of windows, or some of them.
        guard: limits the norms of updates.
        budget: limits that may end the run before its last round.
    """

    rounds: int
    tokens_per_step: int
    horizon: int
    lr_scale: Callable[[int, int], float]
    rows_for: Callable[[int, int], int]
    length: Rounds = STEPS
    planner: Planner = BLIND
    guard: Guard = UNGUARDED
    budget: Budget = UNLIMITED

    def steps(self, site: Site, round_: "Round", local_steps: int) -> int:
        """The steps of a client that is there from the start of the round."""
        return self.length.steps(site.step_s, round_.fastest_s, local_steps)

    def work(self, site: Site, round_: "Round", now: float, local_steps: int, window_s: float) -> tuple[int, float]:
        """The work to give a client now: (steps, seconds after which it stops even with fewer steps).

        Both fit into the round and into the `window_s` seconds that the client is known to have for steps.
        """
        left_s = round_.ends - now - site.down_s - site.up_s
        if self.length.until == "steps":
            most = local_steps * self.length.alone if round_.alone else self.steps(site, round_, local_steps)
            whole = now == round_.started or round_.passes_on or math.isinf(left_s)
            steps: float = most if whole else min(most, math.floor(left_s / site.step_s))
        else:
            steps = site.steps_in(left_s)
        if self.length.until == "tokens" and not round_.alone:
            steps = min(steps, self.length.missing(sum(round_.planned.values()), self.tokens_per_step))
        if self.length.until != "seconds":
            left_s = math.inf
        return int(min(steps, site.steps_in(window_s))), min(left_s, window_s)


class Given(Struct, frozen=True, kw_only=True):
    """When a task was given: its lease `granted` and the task `sent`, in seconds on the run's clock.

    `wall` is a wall-clock reading at the grant, `version` that of the weights that it starts from, and `fragment` the
    one that it is to submit.
    """

    granted: float
    sent: float
    wall: float
    version: int
    fragment: int = 0


class Carried(Struct, frozen=True, kw_only=True):
    """A task that outlives the round that it was given in: its lease and steps, and when it was given."""

    lease: Lease
    steps: int
    given: Given


@dataclass(kw_only=True)
class Round:
    """One round in progress. Its updates are planned to arrive by `ends`; those missing at `closes` are given up.

    `fastest_s` is the time of an inner step of the fastest client at its start.
    """

    index: int
    started: float
    ends: float
    closes: float
    accumulators: Accumulators
    inner: WeightedMean
    fastest_s: float = math.inf
    accumulated: list[UpdateFolded] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)  # of the accumulated updates of each fragment
    served: set[str] = field(default_factory=set)  # clients that got a task since they came up
    planned: dict[int, int] = field(default_factory=dict)  # lease → steps that were planned, or done once submitted
    given: dict[int, Given] = field(default_factory=dict)  # lease → when its task was given
    model_norms: dict[int, float] = field(default_factory=dict)  # of each fragment, once the guard has asked for it
    alone: bool = False  # single-client mode
    adopts: bool = False  # the weights submitted in single-client mode become the global model
    adopted: State | None = None
    overlaps: bool = False  # clients that have submitted take overlapped steps of the next round
    quorum: int = 1
    quorum_s: float | None = None  # from its start until it had its quorum
    grace: float | None = None  # seconds for which it goes on once it has its quorum; None: until all have submitted
    carries: bool = False  # the strategy lets work in progress outlive a round
    settles: bool = False  # this one waits for all work in progress nevertheless

    @property
    def passes_on(self) -> bool:
        """Whether what is missing when it closes is left to later rounds."""
        return self.carries and not self.settles

    def accumulate(self, update: UpdateFolded, fragment: int) -> None:
        """Note an update that was accumulated."""
        self.accumulated.append(update)
        self.counts[fragment] += 1
        if self.quorum_s is None and self.has_quorum:
            self.quorum_s = update.t - self.started

    @property
    def has_quorum(self) -> bool:
        """Whether some fragment, or else the model, has its quorum."""
        return any(count >= self.quorum for count in self.counts.values())

    @property
    def full(self) -> bool:
        """Whether it has its quorum and waits for nothing else, so that a further update is for the next round."""
        return self.grace == 0.0 and self.passes_on and self.has_quorum

    def due(self) -> list[int]:
        """The fragments to merge when it closes: those with their quorum.

        All that have an update, if it settles or if none has its quorum.
        """
        complete = [index for index, count in self.counts.items() if count >= self.quorum]
        return sorted(self.counts if self.settles or not complete else complete)

    def take_over(self, last: "Round") -> None:
        """Begin with the updates of fragments that the last round has left for their quorum."""
        self.accumulators = last.accumulators
        self.accumulated = list(last.accumulated)
        self.counts = last.counts.copy()

    def begin_grace(self, now: float) -> None:
        """Once the quorum is reached, it closes within its grace; one that settles waits for everyone."""
        if self.grace is not None and not self.settles and self.has_quorum:
            self.closes = min(self.closes, now + self.grace)  # the grace that began first ends first
            self.ends = min(self.ends, self.closes)

    @property
    def leased_until(self) -> float:
        """When the leases of its tasks expire."""
        return math.inf if self.carries else self.closes
