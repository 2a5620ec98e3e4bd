"""What the round loop knows in advance, and what it knows of the round under way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fednano.events import UpdateFolded
from fednano.strategy.merge import Accumulator


@dataclass(frozen=True)
class Site:
    """What the server knows of a client: its node, the pool it reads from, seconds per inner step and per transfer."""

    node_id: int
    pool: int
    step_s: float
    down_s: float
    up_s: float

    def duration(self, steps: int) -> float:
        """Seconds from dispatch to hand-in of `steps` steps."""
        return self.down_s + steps * self.step_s + self.up_s


@dataclass(frozen=True)
class Plan:
    """The run's figures that do not change.

    Args:
        rounds: how many rounds to run, skipped ones included.
        tokens_per_step: B·T of one client.
        horizon: global tokens at which learning-rate schedules end.
        lr_scale: the schedule, (tokens, horizon) → factor.
        rows_for: (pool, tokens) → rows that hold about that many.
    """

    rounds: int
    tokens_per_step: int
    horizon: int
    lr_scale: Callable[[int, int], float]
    rows_for: Callable[[int, int], int]


@dataclass
class Round:
    """One round under way. Its work is planned to be in by `ends`; what is missing at `closes` is given up."""

    index: int
    started: float
    ends: float
    closes: float
    accumulator: Accumulator
    inner: Accumulator
    folded: list[UpdateFolded] = field(default_factory=list)
    served: set[str] = field(default_factory=set)  # clients that had their share since they came up
