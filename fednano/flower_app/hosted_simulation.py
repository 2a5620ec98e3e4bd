"""Runtime on a simulation started by Flower's own command, with its Ray, its nodes and its ServerApp thread."""

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

# Grid is re-exported for `server_app.py`, which imports nothing from flwr itself.
__all__ = ["Grid", "HostedSimulation", "StagedGrid"]


class HostedSimulation:
    """A `Runtime` on a running simulation; Flower decides how many clients train at once.

    Args:
        simulation: the configured runtime.
        grid: Flower's grid.
    """

    shared: ClassVar[str] = Simulation.shared
    in_process: ClassVar[bool] = Simulation.in_process

    def __init__(self, simulation: Simulation, grid: Grid) -> None:
        self.name = simulation.name
        self._simulation = simulation
        self._grid = grid

    def check(self, parts: Parts) -> None:
        """Raise ValueError if Flower has made fewer nodes than there are clients."""
        nodes, clients = len(list(self._grid.get_node_ids())), parts.settings.clients
        if nodes < clients:
            raise ValueError(
                f"clients must be <= {nodes}, the nodes of Flower's simulation, got {clients}; add --federation-config "
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
    """Adds the stage to each task, for the process that takes it up."""

    def __init__(self, grid: Grid, stage: Stage) -> None:
        super().__init__(grid)
        self._stage = stage

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self._stage.attach(message)
        return super().push_messages(messages)
