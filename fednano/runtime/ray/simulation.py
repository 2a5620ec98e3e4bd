"""The simulation runtime: clients train in parallel in Ray's worker processes on this machine, in real time.

Ray is an extra of the package. It is imported when a run starts it, so that everything else does without.
"""

import importlib.util
import logging
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import ClassVar

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fednano.core.clock import RealClock, pause, wall
from fednano.core.ranks import world
from fednano.federation.plan import Site
from fednano.flower.compat.simulation import ray_backend
from fednano.process import sweeper
from fednano.process.child import Child
from fednano.process.surroundings import require_open_files, require_shared_memory
from fednano.process.temporary import socket_place, temporary_folder
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
ENDS_WITHIN_S = 10.0  # for the server to end once Ray is gone
SWEEP_S = 4.0  # for all of Ray's processes to be found and killed
LOG, OUTPUT = "flower.log", "ray"  # in the run folder

Serve = Callable[[Grid, StepsHeard, Event], None]
"""Runs the federation on Flower's grid; ends once the event is set, which means that Ray is lost."""
Simulate = Callable[[Parts, Path, float, Serve], None]
"""Connects a server to clients that share a run folder and the zero of its clock, until the server returns."""


@dataclass(frozen=True)
class Simulation:
    """Clients that never leave and share this machine's cores and devices through Ray.

    Args:
        name: the runtime's name.
        client_cpus: cores of a client while it trains, possibly a fraction; also its number of torch threads, unless
            `hardware.threads` is set.
        client_gpus: GPUs of a client while it trains: 0.25 lets four clients share a GPU; hardware=cuda needs more than
            0.
    """

    shared: ClassVar[str] = "clients"
    in_process: ClassVar[bool] = True  # for the coordination store: Ray's processes get everything by messages
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
        if importlib.util.find_spec("ray") is None:  # here, so that no data are prepared in vain
            raise ValueError(
                f"runtime={self.name} needs Ray, which is not installed; install it with: pip install "
                "'fednano[simulation]', or use runtime=virtual"
            )

    def check(self, parts: Parts) -> None:
        if not isinstance(parts.volatility, AlwaysOn):
            raise ValueError(
                f"volatility must be none with runtime={self.name}, whose clients never leave, got "
                f"{parts.volatility.name}; use volatility=none, runtime=virtual or runtime=deployment"
            )
        if parts.round.until != "steps":
            raise ValueError(
                f"round.until must be steps with runtime={self.name}, whose clients take turns, got "
                f"{parts.round.until}; use round=steps or runtime=virtual"
            )
        if parts.round.overlap:
            raise ValueError(
                f"round.overlap must be 0 with runtime={self.name}, which keeps no client between messages, got "
                f"{parts.round.overlap}; use 0 or runtime=virtual"
            )
        if parts.round.local_steps != "fixed":
            raise ValueError(
                f"round.local_steps must be fixed with runtime={self.name}, whose clients have no speed of their own, "
                f"got {parts.round.local_steps}; use fixed or runtime=virtual"
            )
        if world() > 1:
            raise ValueError(f"runtime={self.name} starts its own processes; run it without torchrun")
        require_open_files(f"runtime={self.name}")
        require_shared_memory(f"runtime={self.name}")
        socket_place()
        self._check_devices(parts.hardware.device)

    def _check_devices(self, device: str) -> None:
        # Ray shows a worker process only its own devices, numbered from 0.
        if device.startswith("cuda") and device != "cuda":
            raise ValueError(
                f"hardware.device must be cuda under runtime={self.name}, got {device}; Ray picks the device, use cuda"
            )
        if device == "cuda" and not self.client_gpus:
            raise ValueError(
                f"runtime.client_gpus must be > 0 with hardware.device={device}, got 0; use a share, such as 0.25 for "
                "four clients at a time"
            )
        if device != "cuda" and self.client_gpus:
            raise ValueError(
                f"runtime.client_gpus must be 0 with hardware.device={device}, got {self.client_gpus:g}; use 0 or "
                "hardware=cuda"
            )

    def run(self, parts: Parts, session: Session) -> Outcome:
        return self.federate(parts, session, self._simulate)

    def federate(self, parts: Parts, session: Session, simulate: Simulate) -> Outcome:
        """The whole run, on the clients that `simulate` provides; an error during training is part of the outcome."""
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
        """Connect `serve` to the clients until it returns. Raises its error, or that of Ray."""
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
                            stage.clear()  # nobody needs the results of current tasks
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
        """The stage for worker processes that share the folder `place`."""
        return Stage(parts.recipe, parts.hardware.threads or max(1, int(self.client_cpus)), since, place)

    @contextmanager
    def _ray(self, parts: Parts, folder: Path) -> Iterator[Path]:
        """Ray on this machine, with cores for at most all clients; yields a folder that exists as long as Ray runs.

        The output of Ray's processes is moved into the run folder.
        """
        import ray

        wanted = math.ceil(parts.settings.clients * self.client_cpus)
        # The paths of Ray's sockets, whose length is limited, begin with this folder.
        with temporary_folder() as place, _swept(place), _flower_at_home_in(place / "flwr"):
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
                signal.signal(signal.SIGTERM, on_term)  # Ray has installed its own handler
                yield place
            finally:
                ray.shutdown()
                _keep_output(place, folder / OUTPUT)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sites(parts: Parts, grid: Grid) -> dict[str, Site]:
    """The server's view of each client, by name: the time of a step is unknown, and transfers take no time.

    Raises RuntimeError if Flower does not make all nodes.
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
def _swept(place: Path) -> Iterator[None]:
    """Have whatever uses this folder, apart from this process, end with the block, and with this process.

    Ray's processes notice by themselves that their parents have ended, but some only after a minute.
    """
    child = Child(
        "sweeper",
        [sys.executable, "-I", "-S", sweeper.__file__, str(place), str(os.getpid())],
        log=None,
        environment=os.environ,
        grace_s=SWEEP_S,
    )
    child.start()
    try:
        yield
    finally:
        child.stop()


@contextmanager
def _flower_at_home_in(folder: Path) -> Iterator[None]:
    """Have Flower keep its own files in `folder`: it records its use even with telemetry disabled."""
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
    """Send Flower's and Ray's log lines to a file, and none of them to the terminal."""
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
    """Move the output of worker processes into `target`."""
    for printed in sorted(place.glob("session_2*/logs/worker-*")):
        if printed.stat().st_size:
            target.mkdir(exist_ok=True)
            shutil.move(printed, target / printed.name)
