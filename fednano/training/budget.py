"""Budgets: tokens and hours that end a run beside its rounds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from fednano.core.events import Event, RoundMerged, RoundSkipped

ROUNDS = "rounds"
TOKENS, VIRTUAL_HOURS, WALL_HOURS = "budget.tokens", "budget.virtual_hours", "budget.wall_hours"
HOUR_S = 3600.0
PATIENCE = 10_000  # skipped rounds in a row: more than a long night with too few clients has


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The `budget` keys. A run ends after the round in which one of them is used up; None sets no limit.

    Args:
        tokens: merged into the global model.
        virtual_hours: of the run's clock, which is real where clients run in real time.
        wall_hours: of wall-clock time, what passed before the run was resumed included.

    Raises:
        ValueError: a limit that is not a number above 0.
    """

    tokens: int | None = None
    virtual_hours: float | None = None
    wall_hours: float | None = None

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(
                    f"budget.{key} must be > 0 and finite, got {value}; use another number, or null for no limit"
                )

    @property
    def ends_by_plan(self) -> bool:
        """Whether the end can be foreseen; nobody knows how much fits into wall-clock hours."""
        return self.tokens is not None or self.virtual_hours is not None

    def used_up(self, tokens: int, clock_s: float, wall_s: Callable[[], float]) -> str | None:
        """The key of a limit that is reached, if one is. `wall_s` is asked only where it is limited."""
        if self.tokens is not None and tokens >= self.tokens:
            return TOKENS
        if self.virtual_hours is not None and clock_s >= HOUR_S * self.virtual_hours:
            return VIRTUAL_HOURS
        if self.wall_hours is not None and wall_s() >= HOUR_S * self.wall_hours:
            return WALL_HOURS
        return None

    def rounds_within(self, rounds: int | None, round_s: float) -> int:
        """How many rounds of so many seconds begin within the virtual hours, `rounds` at most.

        Only for a budget of virtual hours may `rounds` be None.
        """
        if self.virtual_hours is None:
            assert rounds is not None, "only a budget ends a run without a number of rounds"
            return rounds
        within = math.ceil(HOUR_S * self.virtual_hours / round_s)
        return within if rounds is None else min(rounds, within)

    def check(self, least_tokens: int, least_s: float, real: bool) -> None:
        """Raise ValueError for less than one round.

        Args:
            least_tokens: what the smallest round merges.
            least_s: how long the shortest one is planned to take.
            real: whether it takes as long in wall-clock time.
        """
        if self.tokens is not None and self.tokens < least_tokens:
            raise ValueError(
                f"{TOKENS} must be >= {least_tokens}, the tokens of the smallest round, got {self.tokens}; use more, "
                "or fewer strategy.local_steps or a smaller batch_size"
            )
        for key, hours in ((VIRTUAL_HOURS, self.virtual_hours), (WALL_HOURS, self.wall_hours if real else None)):
            if hours is not None and HOUR_S * hours < least_s:
                raise ValueError(
                    f"{key} must hold the shortest round, which is planned to take {least_s:g} s, got {hours:g} "
                    f"({HOUR_S * hours:g} s); use more, or fewer strategy.local_steps"
                )


@dataclass(kw_only=True)
class BudgetReach:
    """How far a run that is played through in advance has come towards its budget.

    Args:
        budget: what it has to use up.
        bounded: whether something else ends it, too.
    """

    budget: Budget
    bounded: bool
    _tokens: int = field(default=0, init=False)
    _t: float = field(default=0.0, init=False)
    _skipped: int = field(default=0, init=False)

    def hear(self, event: Event) -> None:
        """Take note of an event. Raises ValueError where so many rounds merge nothing that none ever will."""
        self._t = max(self._t, event.t)
        if isinstance(event, RoundMerged):
            self._tokens, self._skipped = event.tokens_total, 0
        elif isinstance(event, RoundSkipped):
            self._skipped += 1
            if self._skipped >= PATIENCE and not self.bounded:
                raise ValueError(
                    f"{self._skipped:,} rounds in a row merge nothing; lower strategy.quorum, or change volatility"
                )

    def refusal(self, cause: ValueError) -> ValueError:
        """The error that the run cannot go on, with the budget that it does not use up by then."""
        if self.budget.tokens is not None:
            missed = f"{TOKENS} must be in reach, got {self.budget.tokens} ({self._tokens} merged by {self._t:,.0f} s)"
        elif self.budget.virtual_hours is not None:
            missed = f"{VIRTUAL_HOURS} must be in reach, got {self.budget.virtual_hours:g}"
        else:
            return cause
        return ValueError(f"{missed}; lower it, or remove its cause: {cause}")
