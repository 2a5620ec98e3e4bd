"""Flower's simulation: its backend on a Ray that already runs, and its recognition by a ServerApp's grid."""

from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import Grid
from flwr.superlink.grid.inmemory_grid import InMemoryGrid


def ray_backend(client_cpus: float, client_gpus: float) -> BackendConfig:
    """The backend of a simulation whose clients take these shares of the running Ray; Flower then starts no Ray."""
    # "init_args" would hold the arguments for a Ray started by Flower.
    return {"client_resources": {"num_cpus": client_cpus, "num_gpus": client_gpus}, "init_args": {}}


def is_simulated(grid: Grid) -> bool:
    """Whether a ServerApp's grid leads to Flower's simulation rather than to SuperNodes."""
    return isinstance(grid, InMemoryGrid)
