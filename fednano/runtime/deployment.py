"""Flower's deployment engine: starts SuperLink, Redis and nodes as processes, submits the run and follows it."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf

from fednano.ranks import world
from fednano.report.console import Console
from fednano.runtime.conductor import Conductor
from fednano.runtime.parts import Outcome, Parts
from fednano.runtime.security import private_folder
from fednano.training.checkpoint import Snapshot
from fednano.volatility.profiles import AlwaysOn

LOGS = "logs"


@dataclass(frozen=True)
class Deployment:
    """A SuperLink whose ServerApp writes the run folder, and nodes with trainers that stay resident.

    Args:
        name: what it is called.
        hosts: names and addresses by which nodes elsewhere reach the SuperLink, which listens beyond this machine then.
        port: of the SuperLink; 0 for a free one.
        local_nodes: how many of the clients run on this machine; None: all.
        min_clients: how many have to be up before the first round; None: all.
        transfer_s: seconds that a message takes each way through Flower, at most.
        restarts: of each process that dies, before the run fails.
    """

    shared: ClassVar[str] = "batch_size"
    in_process: ClassVar[bool] = False
    name: str = "deployment"
    hosts: tuple[str, ...] | list[str] = ()
    port: int = 0
    local_nodes: int | None = None
    min_clients: int | None = None
    transfer_s: float = 20.0
    restarts: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"runtime.port={self.port} is no TCP port; use 0 for a free one, or 1 to 65535")
        if not 0.0 < self.transfer_s < float("inf"):
            raise ValueError(f"runtime.transfer_s={self.transfer_s:g} is no time that a message takes; use 20")
        if self.restarts < 0:
            raise ValueError(f"runtime.restarts={self.restarts} is no count; use 0 or more")
        for key, least in (("local_nodes", 0), ("min_clients", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"runtime.{key}={value} is too small; use {least} or more, or null for all clients")

    def check(self, parts: Parts) -> None:
        clients = parts.settings.clients
        if not isinstance(parts.volatility, AlwaysOn):
            raise ValueError(
                f"volatility={parts.volatility.name} has no effect on runtime={self.name}, whose nodes come and go as "
                "they do; use volatility=none, or runtime=virtual"
            )
        if world() > 1:
            raise ValueError(f"runtime={self.name} starts its own processes; start it without torchrun")
        for key in ("local_nodes", "min_clients"):
            if (getattr(self, key) or 0) > clients:
                raise ValueError(f"runtime.{key}={getattr(self, key)} is more than clients={clients}; lower it")
        if self.elsewhere(parts.settings.names):
            self._check_elsewhere(parts.coordination.kind)

    def _check_elsewhere(self, coordination: str) -> None:
        leaves = f"runtime.local_nodes={self.local_nodes} leaves clients to other machines, which cannot reach"
        if not self.hosts:
            raise ValueError(f"{leaves} the SuperLink; set runtime.hosts to the names of this one")
        if coordination != "redis":
            raise ValueError(f"{leaves} a Redis server of the run's own; use coordination=redis")

    def here(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The clients whose nodes run on this machine."""
        return names[: self.local_nodes]

    def elsewhere(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The clients whose nodes somebody starts on other machines."""
        return names[len(self.here(names)) :]

    def conduct(
        self, folder: Path, name: str, parts: Parts, config: dict[str, Any], resume: Snapshot | None
    ) -> Outcome:
        (folder / LOGS).mkdir(exist_ok=True)
        if not resume:
            OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        names = parts.settings.names
        with ExitStack() as stack:
            private = stack.enter_context(private_folder())
            redis = stack.enter_context(parts.coordination.serving())
            conductor = Conductor(
                folder=folder,
                logs=folder / LOGS,
                private=private,
                redis=redis,
                board=parts.board,
                console=lambda: Console(name, folder),
                clients=names,
                local=self.here(names),
                hosts=tuple(self.hosts),
                port=self.port,
                restarts=self.restarts,
            )
            stack.callback(conductor.end)
            return conductor.run(parts.strategy.name, resume is not None)
