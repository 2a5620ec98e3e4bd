"""Restart policy: whether and when a program that has died is restarted. Pure; the clock is passed in."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How often a program is restarted, and how soon.

    Args:
        limit: maximum number of deaths in a row that are each followed by a restart; None: any number.
        first_s: seconds before a restart; doubled with each further death in a row.
        longest_s: upper limit of these seconds.
        sound_s: a program that lived longer than this was sound, and its next death counts as the first in a row.
        refusals: exit codes that mean bad input. A program that ends with one in its first life is not restarted;
            in a later life the cause must be another, since the input has not changed.
    """

    limit: int | None = None
    first_s: float = 0.0
    longest_s: float = 0.0
    sound_s: float = math.inf
    refusals: frozenset[int] = frozenset()


class Verdict(Enum):
    """What follows a death."""

    AGAIN = auto()
    REFUSED = auto()
    TOO_OFTEN = auto()


class Restarts:
    """The lives of one program. Each life counts as beginning when it is due.

    Args:
        policy: the restart policy.
        now: a clock, in seconds.
    """

    def __init__(self, policy: RestartPolicy, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self._first_life = True
        self._deaths = 0  # in a row
        self.pause_s = 0.0  # before the current life
        self.due = now()  # when the current life should begin, by the clock

    def died(self, code: int | None = None) -> Verdict:
        """Record a death; returns what follows. After AGAIN, the next life begins when it is `due`, after `pause_s`.

        `code` is the exit code if there is one, negative for a signal's number.
        """
        policy = self._policy
        if code in policy.refusals and self._first_life:
            return Verdict.REFUSED
        self._first_life = False
        sound = self._now() - self.due > policy.sound_s
        self._deaths = 1 if sound else self._deaths + 1
        if policy.limit is not None and self._deaths > policy.limit:
            return Verdict.TOO_OFTEN
        self.pause_s = policy.first_s if self._deaths == 1 else min(policy.longest_s, 2 * self.pause_s)
        self.due = self._now() + self.pause_s
        return Verdict.AGAIN
