"""The deployment runtime: SuperLink, Redis and nodes as processes, and a run submitted to them and followed."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf

from fednano.core.clock import wall
from fednano.core.files import write_atomically
from fednano.core.ranks import world
from fednano.process.surroundings import require_open_files, require_port, require_utf8, without_foreign_proxies_here
from fednano.process.temporary import socket_place, temporary_folder
from fednano.report.terminal.console import Console
from fednano.runtime.deployment.conductor import Conductor
from fednano.runtime.deployment.nodes.attendance import Attendance, Chaotic, ProvisionedNodes, Reach, Steady
from fednano.runtime.deployment.nodes.chaos import Chaos, check_crashes
from fednano.runtime.deployment.nodes.provision import Command, Provisioner, Provisioning, Unprovisioned
from fednano.runtime.deployment.nodes.proxy import Proxy
from fednano.runtime.deployment.nodes.signals import ProfileSignal, Signal, Watched
from fednano.runtime.parts import Parts
from fednano.runtime.session import Outcome
from fednano.training.checkpoint import Snapshot
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.periodic import check_speedup
from fednano.volatility.profiles import AlwaysOn

LOGS = "logs"
UNLIMITED = Network(name="unlimited", up_mbit_s=math.inf, down_mbit_s=math.inf, latency_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A SuperLink whose ServerApp writes the run folder, and nodes with resident trainers.

    Args:
        name: the runtime's name.
        hosts: names and addresses of this machine for nodes elsewhere; if given, the SuperLink listens beyond it.
        port: the SuperLink's port; 0 for a free one.
        local_nodes: how many clients run on this machine; None: all.
        min_clients: how many clients must be up before the first round; None: all.
        transfer_s: seconds that a message takes each way through Flower, at most.
        restarts: how often each process that dies is restarted before the run fails.
        chaos: whether local nodes come, go and crash as `volatility` says.
        crashes: share of each kind of crash: kill, pause (the node wakes when it is up again), cut (off the network).
        speedup: seconds of `volatility` per real second.
        links: whether local nodes reach their servers over links with the properties of `network`.
        provisioner: provisions and releases nodes.
        signal: says when to do so.
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
    chaos: bool = False
    crashes: dict[str, float] = field(default_factory=lambda: {"kill": 1.0})
    speedup: float = 1.0
    links: bool = False
    provisioner: Provisioner = field(default_factory=Unprovisioned)
    signal: Signal = field(default_factory=ProfileSignal)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"runtime.port must be 0 to 65535, got {self.port}; use 0 for a free port")
        if not 0.0 < self.transfer_s < float("inf"):
            raise ValueError(f"runtime.transfer_s must be finite and > 0 s, got {self.transfer_s:g}; use 20")
        if self.restarts < 0:
            raise ValueError(f"runtime.restarts must be >= 0, got {self.restarts}; use 0 or more")
        for key, least in (("local_nodes", 0), ("min_clients", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(
                    f"runtime.{key} must be >= {least}, got {value}; raise it, or use null for all clients"
                )
        check_crashes(self.crashes)
        check_speedup(self.speedup, "runtime")
        for key in ("provisioner", "signal"):
            if isinstance(choice := getattr(self, key), str):
                raise ValueError(f"runtime.{key} must be chosen as a group, got {choice}; use runtime/{key}={choice}")
        self._check_comings()

    def _check_comings(self) -> None:
        """Check that the options that start and end nodes can reach them."""
        if isinstance(self.provisioner, Unprovisioned):
            if self.chaos and self.local_nodes is not None:
                raise ValueError(f"runtime.local_nodes must be null with chaos, got {self.local_nodes}; use null")
            return
        if self.chaos:
            raise ValueError(
                f"runtime.chaos=true and runtime/provisioner={self.provisioner.name} would both start and end nodes; "
                "use one of them"
            )
        here = 0 if isinstance(self.provisioner, Command) else None
        if self.local_nodes != here:
            wanted = "null" if here is None else here
            raise ValueError(
                f"runtime.local_nodes must be {wanted} with runtime/provisioner={self.provisioner.name}, got "
                f"{self.local_nodes}; set it to {wanted}"
            )

    @property
    def by_profile(self) -> bool:
        """Whether `volatility` decides when nodes are up."""
        return self.chaos or (self.provisioner.name != "none" and isinstance(self.signal, ProfileSignal))

    def least_clients(self, clients: int) -> int:
        """How many of `clients` must be up before the first round."""
        volatile = self.chaos or self.provisioner.name != "none"
        return self.min_clients or (1 if volatile else clients)

    def check(self, parts: Parts) -> None:
        clients = parts.settings.clients
        if not self.by_profile and not isinstance(parts.volatility, AlwaysOn):
            raise ValueError(
                f"volatility must be none with runtime={self.name}, got {parts.volatility.name}; use volatility=none, "
                "runtime.chaos=true, which enacts it, or runtime=virtual"
            )
        if self.provisioner.name != "none":
            self.signal.check()
        if world() > 1:
            raise ValueError(f"runtime={self.name} starts its own processes; run it without torchrun")
        require_open_files(f"runtime={self.name}")
        socket_place()
        for key in ("local_nodes", "min_clients"):
            if (getattr(self, key) or 0) > clients:
                raise ValueError(f"runtime.{key} must be <= clients={clients}, got {getattr(self, key)}; lower it")
        if self.elsewhere(parts.settings.names):
            self._check_elsewhere(parts.coordination.kind)

    def _check_elsewhere(self, coordination: str) -> None:
        leaves = f"runtime.local_nodes={self.local_nodes} leaves clients to other machines, which cannot reach"
        if not self.hosts:
            raise ValueError(f"{leaves} the SuperLink; set runtime.hosts to the names of this machine")
        if coordination != "redis":
            raise ValueError(f"{leaves} the run's own Redis server; use coordination=redis")

    def here(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The clients whose nodes run on this machine."""
        return names[: self.local_nodes]

    def elsewhere(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The clients whose nodes the user starts on other machines."""
        return names[len(self.here(names)) :]

    def conduct(
        self, folder: Path, name: str, parts: Parts, config: dict[str, Any], resume: Snapshot | None
    ) -> Outcome:
        """The whole run. Raises ValueError, before anything is written, for a port or a folder that cannot be used."""
        require_port("runtime.port", self.port, "0.0.0.0" if self.hosts else "127.0.0.1")
        require_utf8("hydra.run.dir", folder.resolve())
        (folder / LOGS).mkdir(exist_ok=True)
        if not resume:
            write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
        names = parts.settings.names
        with ExitStack() as stack:
            stack.enter_context(without_foreign_proxies_here())
            private = stack.enter_context(temporary_folder())
            redis = stack.enter_context(parts.coordination.serving())
            conductor = Conductor(
                folder=folder,
                logs=folder / LOGS,
                private=private,
                redis=redis,
                store=parts.store,
                console=lambda: Console(name, folder),
                clients=names,
                local=self.here(names),
                hosts=tuple(self.hosts),
                port=self.port,
                restarts=self.restarts,
                attend=partial(self._attendance, parts),
                link=self._link(parts),
                at=resume.clock if resume else 0.0,
            )
            stack.callback(conductor.end)
            return conductor.run(parts.strategy.name, resume is not None)

    def _link(self, parts: Parts) -> Callable[[Sequence[tuple[str, int]], int], Proxy] | None:
        """A function that makes a client's link; None if no links are needed."""
        network = parts.network if self.links else UNLIMITED
        seed = parts.settings.seed
        needed = self.links or (self.chaos and self.crashes.get("cut", 0.0) > 0.0)
        return (
            (lambda targets, index: Proxy(targets=targets, network=network, index=index, seed=seed)) if needed else None
        )

    def _attendance(self, parts: Parts, reach: Reach) -> Attendance:
        names, seed = parts.settings.names, parts.settings.seed
        membership = Membership.draw(parts.volatility, names, seed)
        if self.chaos:
            chaos = Chaos(
                membership=membership,
                control=reach.nodes,
                tell=reach.tell,
                speedup=self.speedup,
                seed=seed,
                crashes=self.crashes,
                submit_s=self.transfer_s,
            )
            return Chaotic(chaos, names, reach.nodes)
        if isinstance(self.provisioner, Unprovisioned):
            return Steady(self.here(names), reach.nodes)
        begun = wall()
        actor = self.provisioner.actor(names, reach.nodes)
        provisioning = Provisioning(actor, self.provisioner, names, reach.tell, lambda: wall() - begun)
        watch = self.signal.watch(Watched(names, membership, self.speedup, reach.value))
        return ProvisionedNodes(provisioning, watch, names, reach.nodes, reach.tell)
