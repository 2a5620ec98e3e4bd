"""Waiting in tests for what another thread or process does, of which nobody is told."""

from collections.abc import Callable

from fednano.core.clock import pause, wall

WITHIN_S = 60.0


def until(there: Callable[[], object]) -> None:
    """Return once something is there."""
    begun = wall()
    while not there():
        assert wall() - begun < WITHIN_S
        pause(0.005)


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    """Whether it comes true."""
    until = wall() + within_s
    while not condition():
        if wall() > until:
            return False
        pause(0.01)
    return True
