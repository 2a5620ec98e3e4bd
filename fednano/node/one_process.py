"""A SuperNode in one process: its messages are answered where they arrive, by fednano's relay.

Flower starts a program for each message, whose imports take seconds, and its loop looks for messages every 3 s. All
this passes between two rounds. Here the loop itself calls the relay.
"""

from fednano.core.clock import pause
from fednano.flower.compat.supernode import LOOK_S, answer_within
from fednano.flower.relay import app

SOON_S, GROWS = 0.1, 1.2
ANSWER_S = 0.05


class Waits:
    """Stands for `time` in Flower's loop.

    It asks for a message soon after the last one, and less and less often: a message waits for a sixth of the time that
    has passed since, and never longer than with Flower.
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
    """Make the SuperNode of this process answer its messages itself. Its isolation has to be "process"."""
    answer_within(app, Waits())
