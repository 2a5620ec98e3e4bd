"""A SuperNode in one process, which answers its messages through fednano's relay.

Flower starts a program for each message, whose imports take seconds, and its loop looks for messages every 3 s. This
time is lost between two rounds. Here the loop itself calls the relay.
"""

from fednano.core.clock import pause
from fednano.flower.compat.supernode import LOOK_S, answer_within
from fednano.flower.relay import app

SOON_S, GROWS = 0.1, 1.2
ANSWER_S = 0.05


class Waits:
    """Replaces `time` in Flower's loop.

    The loop looks for a message soon after the last one, and then less and less often: a message waits for at most a
    sixth of the time since the last one, and never longer than with Flower.
    """

    def __init__(self) -> None:
        self._next = SOON_S

    def sleep(self, seconds: float) -> None:
        if seconds < LOOK_S:
            pause(min(seconds, ANSWER_S))
            return
        pause(self._next)
        self._next = min(LOOK_S, self._next * GROWS)

    def begin(self) -> None:
        """A message has just been answered."""
        self._next = SOON_S


def in_one_process() -> None:
    """Make this process's SuperNode answer its messages itself. Its isolation must be "process"."""
    answer_within(app, Waits())
