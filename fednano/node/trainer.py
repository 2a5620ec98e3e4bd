"""The process of a node's resident trainer as the supervisor starts it: python -m fednano.node.trainer SETTINGS."""

import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

from fednano.config.errors import guarded
from fednano.coordination.memory import MemoryStore
from fednano.coordination.redis_link import Address
from fednano.coordination.redis_node import NodeStore
from fednano.coordination.store import Post
from fednano.core.clock import Clock, RealClock
from fednano.experiment.experiment import Experiment
from fednano.flower.relay import TOLD
from fednano.node.resident import Resident
from fednano.node.settings import decode, run_config, told_config
from fednano.report.terminal.console import RichProgress


class Closable(Post, Protocol):
    """A node's side of a coordination store that must be closed when the node ends."""

    def close(self) -> None:
        """Send what is left to send, and disconnect."""


def serve(argument: str, make_post: Callable[[str, str, Clock], Closable]) -> int:
    """Do the relay's tasks until SIGTERM; returns the exit code. Raises ValueError for bad input.

    `make_post` makes the node's side of the coordination store from the run's id, the node's name and the clock.
    """
    settings, data = decode(argument)
    clock = RealClock()
    if settings.run and settings.config:
        run, cfg = settings.run, run_config(Path(settings.config), data)
    else:
        run, cfg = told_config(settings.home / TOLD, data)
    experiment = Experiment(cfg)
    parts = experiment.parts(experiment.prepare(RichProgress()), MemoryStore())

    def say(line: str) -> None:
        print(f"fednano node {settings.name}: trainer: {line}", flush=True)

    with closing(make_post(run, settings.name, clock)) as post:
        resident = Resident(
            name=settings.name,
            parts=parts,
            post=post,
            clock=clock,
            path=settings.socket,
            say=say,
            renewable=settings.config is None,
        )

        def leave(number: int, frame: object) -> None:
            resident.leave()
            if not resident.ready:
                sys.exit(0)

        signal.signal(signal.SIGTERM, leave)
        resident.serve()
    return 0


def _redis_post(run: str, name: str, clock: Clock) -> NodeStore:
    return NodeStore(Address.from_environment(), run, name, clock)


if __name__ == "__main__":
    sys.exit(guarded(lambda: serve(sys.argv[1], _redis_post)))
