"""Budgets of tokens and hours, which end a run as its number of rounds does."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.core.ranges import Range

ROUNDS = "rounds"
TOKENS, VIRTUAL_HOURS, WALL_HOURS = "budget.tokens", "budget.virtual_hours", "budget.wall_hours"
HOUR_S = 3600.0
Hours = Annotated[float, Range(le=math.inf)]  # checked below
PATIENCE = 10_000  # skipped rounds in a row, more than in a long night with too few clients


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The `budget` keys. A run ends after the round in which one of them is used up; None sets no limit.

    Args:
        tokens: tokens merged into the global model.
        virtual_hours: hours on the run's clock: virtual, or real under runtime=simulation and runtime=deployment.
        wall_hours: hours of wall-clock time, including the time before the run was resumed.

    Raises:
        ValueError: a limit that is not a number above 0.
    """

    tokens: int | None = None
    virtual_hours: Hours | None = None
    wall_hours: Hours | None = None

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(
                    f"budget.{key} must be > 0 and finite, got {value}; use another number, or null for no limit"
                )

    @property
    def ends_by_plan(self) -> bool:
        """Whether the end can be planned; how much fits into wall-clock hours is unknown."""
        return self.tokens is not None or self.virtual_hours is not None

    def used_up(self, tokens: int, clock_s: float, wall_s: Callable[[], float]) -> str | None:
        """The key of a limit that is reached, or None. `wall_s` is called only if wall-clock hours are limited."""
        if self.tokens is not None and tokens >= self.tokens:
            return TOKENS
        if self.virtual_hours is not None and clock_s >= HOUR_S * self.virtual_hours:
            return VIRTUAL_HOURS
        if self.wall_hours is not None and wall_s() >= HOUR_S * self.wall_hours:
            return WALL_HOURS
        return None

    def rounds_within(self, rounds: int | None, round_s: float) -> int:
        """How many rounds of `round_s` seconds begin within the virtual hours, at most `rounds`.

        `rounds` may be None only with a budget of virtual hours.
        """
        if self.virtual_hours is None:
            assert rounds is not None, "only a budget ends a run without a number of rounds"
            return rounds
        within = math.ceil(HOUR_S * self.virtual_hours / round_s)
        return within if rounds is None else min(rounds, within)

    def check(self, least_tokens: int, least_s: float, real: bool) -> None:
        """Raise ValueError if the budget is less than one round.

        Args:
            least_tokens: tokens that the smallest round merges.
            least_s: planned seconds of the shortest round.
            real: whether it takes as long in wall-clock time.
        """
        if self.tokens is not None and self.tokens < least_tokens:
            raise ValueError(
                f"{TOKENS} must be >= {least_tokens}, the tokens of the smallest round, got {self.tokens}; use more, "
                "or fewer strategy.local_steps or a smaller batch_size"
            )
        for key, hours in ((VIRTUAL_HOURS, self.virtual_hours), (WALL_HOURS, self.wall_hours if real else None)):
            if hours is not None and HOUR_S * hours < least_s:
                shortest = math.ceil(1e6 * least_s / HOUR_S) / 1e6
                raise ValueError(
                    f"{key} must be >= {shortest:g}, the hours of the shortest round, got {hours:g}; use more, or "
                    "fewer strategy.local_steps"
                )


@dataclass(kw_only=True)
class BudgetReach:
    """How far a run that is simulated in advance gets towards its budget.

    Args:
        budget: the budget that the run has to use up.
        bounded: whether something else ends the run, too.
    """

    budget: Budget
    bounded: bool
    _tokens: int = field(default=0, init=False)
    _t: float = field(default=0.0, init=False)
    _skipped: int = field(default=0, init=False)

    def hear(self, event: Event) -> None:
        """Count an event. Raises ValueError after `PATIENCE` skipped rounds in a row if nothing else ends the run."""
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
        """The error `cause`, which ends the run, preceded by the budget that it does not reach."""
        if self.budget.tokens is not None:
            reached = f"{self._tokens} merged in {self._t:,.0f} s of the run"
            missed = f"{TOKENS} must be in reach, got {self.budget.tokens} ({reached})"
        elif self.budget.virtual_hours is not None:
            missed = f"{VIRTUAL_HOURS} must be in reach, got {self.budget.virtual_hours:g}"
        else:
            return cause
        return ValueError(f"{missed}; lower it, or remove its cause: {cause}")
