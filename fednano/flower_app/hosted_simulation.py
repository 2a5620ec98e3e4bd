"""Flower's simulation where Flower's own command has begun it: its Ray, its nodes, and a thread for the ServerApp."""

from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import ClassVar

from flwr.app import Message
from flwr.serverapp import Grid

from fednano.flower.wrapped_grid import WrappedGrid
from fednano.process.temporary import temporary_folder
from fednano.runtime.parts import Parts
from fednano.runtime.ray.grid import StepsHeard
from fednano.runtime.ray.simulation import Serve, Simulation
from fednano.runtime.ray.stage import Stage
from fednano.runtime.session import Outcome, Session

# Flower's class for who joins a run with its server: no other room imports flwr.
__all__ = ["Grid", "HostedSimulation", "StagedGrid"]


class HostedSimulation:
    """A `Runtime` on a simulation that is there; how many clients train at once is Flower's to know.

    Args:
        simulation: what the configuration says of it.
        grid: Flower's.
    """

    shared: ClassVar[str] = Simulation.shared
    in_process: ClassVar[bool] = Simulation.in_process

    def __init__(self, simulation: Simulation, grid: Grid) -> None:
        self.name = simulation.name
        self._simulation = simulation
        self._grid = grid

    def check(self, parts: Parts) -> None:
        """Raise ValueError where Flower has made fewer nodes than there are clients."""
        nodes, clients = len(list(self._grid.get_node_ids())), parts.settings.clients
        if nodes < clients:
            raise ValueError(
                f"clients={clients} are more than the {nodes} nodes of Flower's simulation; add --federation-config "
                f"'num-supernodes={clients}' to the command, or lower clients"
            )

    def run(self, parts: Parts, session: Session) -> Outcome:
        return self._simulation.federate(parts, session, self._simulate)

    def _simulate(self, parts: Parts, folder: Path, since: float, serve: Serve) -> None:
        with temporary_folder() as place:
            stage = self._simulation.stage(parts, since, place)
            with StepsHeard(stage.steps) as heard:
                serve(StagedGrid(self._grid, stage), heard, Event())


class StagedGrid(WrappedGrid):
    """Puts beside each task what the process that takes it up needs to know of the run."""

    def __init__(self, grid: Grid, stage: Stage) -> None:
        super().__init__(grid)
        self._stage = stage

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self._stage.attach(message)
        return super().push_messages(messages)
