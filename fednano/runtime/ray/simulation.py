"""Flower's Ray simulation: the clients train side by side in worker processes of this machine, in real time."""

import logging
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import ClassVar

import ray
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fednano.core.clock import RealClock, pause, wall
from fednano.core.ranks import world
from fednano.federation.plan import Site
from fednano.flower.compat.simulation import ray_backend
from fednano.process.temporary import temporary_folder
from fednano.runtime.beginning import message_bytes
from fednano.runtime.engine import Engine, transport
from fednano.runtime.parts import Parts
from fednano.runtime.ray.grid import Kept, RayGrid, StepsHeard
from fednano.runtime.ray.stage import Stage
from fednano.runtime.ray.tasks import make_actor_app
from fednano.runtime.session import Outcome, Session
from fednano.runtime.startup import start
from fednano.volatility.membership import Membership
from fednano.volatility.profiles import AlwaysOn

POLL_S = 0.05
ENDS_WITHIN_S = 10.0  # the server, once Ray has gone
LOG, OUTPUT = "flower.log", "ray"  # in the run folder

Serve = Callable[[Grid, StepsHeard, Event], None]
"""Runs the federation on Flower's grid; ends once the event says that Ray is lost."""
Simulate = Callable[[Parts, Path, float, Serve], None]
"""Lets a server talk to clients that share a run folder and the zero of its clock, until it returns."""


@dataclass(frozen=True)
class Simulation:
    """Clients that never leave share this machine's cores and devices through Ray.

    Args:
        name: what it is called.
        client_cpus: cores of a client at work, a part of one or several; also its torch threads, unless
            `hardware.threads` says otherwise.
        client_gpus: devices of a client at work, likewise.
    """

    shared: ClassVar[str] = "clients"
    in_process: ClassVar[bool] = True  # as far as the coordination store goes: Ray's processes are told all by messages
    name: str = "simulation"
    client_cpus: float = 1.0
    client_gpus: float = 0.0

    def __post_init__(self) -> None:
        cores = available_cores()
        if not 0.0 < self.client_cpus <= cores:
            raise ValueError(
                f"runtime.client_cpus must be > 0 and <= {cores} (cores here), got {self.client_cpus:g}; "
                f"use more than 0, and {cores} at most"
            )
        if not 0.0 <= self.client_gpus < math.inf:
            raise ValueError(f"runtime.client_gpus must be finite and >= 0, got {self.client_gpus:g}; use 0 or more")

    def check(self, parts: Parts) -> None:
        if not isinstance(parts.volatility, AlwaysOn):
            raise ValueError(
                f"volatility={parts.volatility.name} has clients leave, which runtime={self.name} cannot; use "
                "volatility=none, or runtime=virtual or runtime=deployment"
            )
        if parts.round.until != "steps":
            raise ValueError(
                f"round.until={parts.round.until} goes by times that clients which take turns under "
                f"runtime={self.name} do not have; use round=steps or runtime=virtual"
            )
        if parts.round.overlap:
            raise ValueError(
                f"round.overlap={parts.round.overlap} has clients train between messages, where runtime={self.name} "
                "keeps none; use 0 or runtime=virtual"
            )
        if world() > 1:
            raise ValueError(f"runtime={self.name} starts its own processes; start it without torchrun")
        self._check_devices(parts.hardware.device)

    def _check_devices(self, device: str) -> None:
        # In a worker process Ray shows the devices that it was given, numbered from 0.
        if device.startswith("cuda") and device != "cuda":
            raise ValueError(
                f"hardware.device must be cuda under runtime={self.name}, got {device}; Ray picks the device, use cuda"
            )
        if device == "cuda" and not self.client_gpus:
            raise ValueError(
                f"runtime.client_gpus=0 gives clients none of the devices of hardware.device={device}; use a share, "
                "such as 0.25 for four clients beside each other"
            )
        if device != "cuda" and self.client_gpus:
            raise ValueError(
                f"runtime.client_gpus={self.client_gpus:g} has no effect under hardware.device={device}; use 0 or "
                "hardware=cuda"
            )

    def run(self, parts: Parts, session: Session) -> Outcome:
        return self.federate(parts, session, self._simulate)

    def federate(self, parts: Parts, session: Session, simulate: Simulate) -> Outcome:
        """The whole run, on the clients that `simulate` brings; what fails while it trains is in the outcome."""
        settings, resume = parts.settings, session.resume
        clock = RealClock(POLL_S, at=resume.clock if resume else 0.0)
        kept = Kept(resume.inner, resume.train_s, resume.data_s) if resume else Kept({}, 0.0, 0.0)
        sites: dict[str, Site] = {}  # once Flower has numbered the nodes
        engine = Engine(
            name=self.name,
            clock=clock,
            members=Membership.draw(parts.volatility, settings.names, settings.seed),
            sites=sites,
            size=message_bytes(parts),
            trainer=kept,
            live=True,
        )
        begun = start(parts, session, engine)

        def serve(grid: Grid, heard: StepsHeard, lost: Event) -> None:
            sites.update(_sites(parts, grid))
            ours = RayGrid(grid, parts.store, lost, kept, heard, session.sink.step)
            begun.federation.run(transport(parts, ours))

        return begun.finish(partial(simulate, parts, session.folder, clock.since, serve))

    def _simulate(self, parts: Parts, folder: Path, since: float, serve: Serve) -> None:
        """Let `serve` talk to the clients until it returns; raises what it raises, or what became of Ray."""
        with _logging_to(folder / LOG), self._ray(parts, folder) as place:
            stage = self.stage(parts, since, place)
            lost, ended = Event(), Event()
            failures: list[Exception] = []
            app = ServerApp()

            with StepsHeard(stage.steps) as heard:

                @app.main()
                def main(grid: Grid, context: Context) -> None:
                    try:
                        serve(grid, heard, lost)
                    except Exception as error:
                        failures.append(error)
                    finally:
                        if failures:
                            stage.clear()  # nobody waits for what is under way
                        ended.set()

                config = ray_backend(self.client_cpus, self.client_gpus)
                try:
                    run_simulation(app, make_actor_app(stage), parts.settings.clients, backend_config=config)
                finally:
                    lost.set()
                    ended.wait(ENDS_WITHIN_S)
            if failures:
                raise failures[0]

    def stage(self, parts: Parts, since: float, place: Path) -> Stage:
        """What worker processes are told that share the folder `place`."""
        return Stage(parts.recipe, parts.hardware.threads or max(1, int(self.client_cpus)), since, place)

    @contextmanager
    def _ray(self, parts: Parts, folder: Path) -> Iterator[Path]:
        """Ray on this machine with room for all clients at most, and a folder that is there as long as it is.

        What its processes printed is moved into the run folder.
        """
        wanted = math.ceil(parts.settings.clients * self.client_cpus)
        # The names of Ray's sockets, which may not be long, begin with it.
        with temporary_folder() as place, _flower_at_home_in(place / "flwr"):
            on_term = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(
                    "local",
                    num_cpus=min(available_cores(), wanted),
                    num_gpus=torch.cuda.device_count() if self.client_gpus else 0,
                    include_dashboard=False,
                    configure_logging=False,
                    log_to_driver=False,
                    _temp_dir=str(place),
                )
                signal.signal(signal.SIGTERM, on_term)  # Ray has put its own in the place
                yield place
            finally:
                ray.shutdown()
                _keep_output(place, folder / OUTPUT)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sites(parts: Parts, grid: Grid) -> dict[str, Site]:
    """The clients as the server sees them, by name: nobody knows how long their steps take, and transfers take nothing.

    Raises RuntimeError where Flower does not make their nodes.
    """
    names = parts.settings.names
    begun = wall()
    while len(nodes := sorted(grid.get_node_ids())) < len(names):
        if wall() - begun > ENDS_WITHIN_S:
            raise RuntimeError(f"Flower made {len(nodes)} nodes for {len(names)} clients; {LOG} may say why")
        pause(POLL_S)
    pools = parts.pools.of_client
    return {
        c: Site(node_id=nodes[i], pool=pools[i], step_s=math.inf, down_s=0.0, up_s=0.0) for i, c in enumerate(names)
    }


@contextmanager
def _flower_at_home_in(folder: Path) -> Iterator[None]:
    """Flower keeps its own files there: it notes who uses it even where it may not tell anybody."""
    before = os.environ.get("FLWR_HOME")
    os.environ["FLWR_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["FLWR_HOME"]
        if before is not None:
            os.environ["FLWR_HOME"] = before


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Flower's and Ray's log lines go into a file, and none of them to the terminal."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("flwr", "ray")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagates) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagates
        handler.close()


def _keep_output(place: Path, target: Path) -> None:
    """Move what worker processes printed into `target`."""
    for printed in sorted(place.glob("session_2*/logs/worker-*")):
        if printed.stat().st_size:
            target.mkdir(exist_ok=True)
            shutil.move(printed, target / printed.name)
