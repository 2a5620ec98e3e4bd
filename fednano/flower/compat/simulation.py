"""Flower's simulation: how it is told of a Ray that was begun before it, and how a ServerApp knows it by its grid."""

from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import Grid
from flwr.superlink.grid.inmemory_grid import InMemoryGrid


def ray_backend(client_cpus: float, client_gpus: float) -> BackendConfig:
    """The backend of a simulation whose clients take these shares of the Ray that is there; Flower begins none then."""
    # Under "init_args" stands what Ray was begun with, had Flower done so.
    return {"client_resources": {"num_cpus": client_cpus, "num_gpus": client_gpus}, "init_args": {}}


def is_simulated(grid: Grid) -> bool:
    """Whether a ServerApp's grid leads to Flower's simulation, and not to SuperNodes."""
    return isinstance(grid, InMemoryGrid)
