"""The server of a live run: the ServerApp in the process that a SuperLink starts.

It writes the run folder as every runtime does. Another process shows the run on a terminal; it follows the run through
the control folder of `runtime/deployment/serving.py`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from msgspec import structs
from rich.console import Console as RichConsole

from fednano.coordination.redis_store import RedisStore
from fednano.coordination.store import LiveStore
from fednano.core.clock import Clock, RealClock
from fednano.core.events import Event, UpdateFolded
from fednano.core.failures import explained
from fednano.core.inner_step import InnerStep
from fednano.core.tensors import State
from fednano.federation.live_members import LiveMembership
from fednano.flower.compat.live_grid import wait_briefly
from fednano.flower.live_grid import Invitation, LiveGrid
from fednano.process.memory import share_heaps
from fednano.report.sinks import Fanout, Logger
from fednano.runtime.beginning import message_bytes
from fednano.runtime.deployment.inbox import Inbox
from fednano.runtime.deployment.serving import ACTIONS, FAILED, REFUSED, STEPS, StopSignal, serving
from fednano.runtime.engine import Engine, transport
from fednano.runtime.parts import Parts
from fednano.runtime.run_folder import run_in_folder
from fednano.runtime.session import Outcome, Session
from fednano.runtime.startup import start
from fednano.training.checkpoint import Checkpoints

POLL_S = 0.1
LOST_AFTER = 3  # a task counts as lost after this many transfer times in which its idle trainer does not mention it


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A live run as built from its resolved configuration: its parts, and the server's view of the clients.

    `transfer_s` is the longest time that a message takes each way through Flower; `min_clients` must be up before the
    first round. `run` is the run's name in the coordination store. The nodes of the clients in `elsewhere` must be told
    what to run.
    """

    name: str
    runtime: str
    parts: Parts
    store: RedisStore
    logger: Logger
    config: dict[str, Any]
    transfer_s: float
    min_clients: int
    run: str
    elsewhere: tuple[str, ...]


Build = Callable[[Path, str, Clock], Launch]
"""Called with the run folder, the run's name in the coordination store and its clock."""
RunConfig = Mapping[str, bool | int | float | str]


def make_app(build: Build, begin: Callable[[Grid, RunConfig], None]) -> ServerApp:
    """The ServerApp of live runs.

    The run configuration names the run folder, the run in the coordination store and the control folder. If it names
    none, Flower's own command started the run, and `begin` takes over.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = context.run_config
        if not config["folder"]:
            begin(grid, config)
            return
        folder, control = Path(str(config["folder"])), Path(str(config["control"]))
        serve(grid, folder, control, str(config["board"]), bool(config["resume"]), build)

    return app


def serve(
    grid: Grid,
    folder: Path,
    control: Path,
    store: str,
    resume: bool,
    build: Build,
    out: RichConsole | None = None,
) -> None:
    """Run the federation whose resolved configuration is in `folder`, or resume it from its newest checkpoint.

    The run is shown on `out`, if given.

    Raises ValueError for bad input, and the error that made the run fail.
    """
    share_heaps()  # Flower's grid starts threads for every message
    # The signal may come as soon as the lock is visible, so it is handled first.
    with StopSignal() as stop, serving(control), _telling(control):
        snapshot = Checkpoints.newest(folder / "checkpoints", folder / "events.jsonl") if resume else None
        clock = RealClock(POLL_S, at=snapshot.clock if snapshot else 0.0)
        launch = build(folder, store, clock)
        with closing(launch.store):
            stop.tell(launch.store)
            server = LiveServer(launch, grid, clock, control)
            shown = out or RichConsole(quiet=True)
            outcome = run_in_folder(
                folder, launch.name, server, launch.parts, launch.logger, launch.config, snapshot, shown
            )
    if outcome.error:
        _tell(control / FAILED, explained(outcome.error))
        raise outcome.error


@contextmanager
def _telling(control: Path) -> Iterator[None]:
    """Tell followers why the server refuses the run, or which failure from outside the program ends it."""
    try:
        yield
    except ValueError as error:
        _tell(control / REFUSED, str(error))
        raise
    except OSError as error:
        _tell(control / FAILED, explained(error))
        raise


def _tell(path: Path, text: str | None) -> None:
    if text is not None:
        with suppress(OSError):  # the control folder's disk may be full too, and the error itself says more
            path.write_text(text, encoding="utf-8")


class LiveServer:
    """The `Runtime` inside the ServerApp's process."""

    shared: ClassVar[str] = "batch_size"
    in_process: ClassVar[bool] = False

    def __init__(self, launch: Launch, grid: Grid, clock: Clock, control: Path) -> None:
        self.name = launch.runtime
        self._launch = launch
        wait_briefly()
        self._grid = LiveGrid(grid, clock, launch.store, LOST_AFTER * launch.transfer_s)
        self._invitation = Invitation(self._grid, launch.store, launch.elsewhere, launch.run, launch.config)
        self._actions = Inbox(control / ACTIONS)
        self._session: Session | None = None  # once it has started
        self._clock = LiveClock(clock, launch.store, control / STEPS, self._besides)

    def check(self, parts: Parts) -> None:
        """The parts were checked when the run was started."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        clock, store, settings, resume = self._clock, self._launch.store, parts.settings, session.resume
        told = Told(resume.train_s, resume.data_s) if resume else Told()
        session = replace(session, sink=Fanout([told, session.sink]))
        size, transfer_s = message_bytes(parts), self._launch.transfer_s
        sites = {
            name: replace(site, down_s=transfer_s, up_s=transfer_s, late_s=0.0)
            for name, site in parts.sites(size).items()
        }
        members = LiveMembership(settings.names, store, self._grid.node_ids, sites, self._grid.failed)
        engine = Engine(name=self.name, clock=clock, members=members, sites=sites, size=size, trainer=told, live=True)
        begun = start(parts, session, engine)
        self._session = session

        def run() -> None:
            while len(members.up(clock.now())) < self._launch.min_clients:
                clock.wait(clock.now() + POLL_S)
            begun.federation.run(transport(parts, self._grid))

        with closing(self._grid):
            outcome = begun.finish(run)
        possible = members.possible_steps() * parts.tokens_per_step
        goodput = outcome.progress.tokens / possible if possible and not resume else None
        return replace(outcome, goodput=goodput)

    def _besides(self, now: float) -> None:
        """Tell nodes elsewhere what to run, log what was done to nodes, and flush the event log for its followers."""
        self._invitation.send(now)
        if self._session:
            for event in self._actions.take():
                self._session.emit(structs.replace(event, t=now))
            self._session.event_log.flush()


class LiveClock:
    """The run's clock, which also checks for requests to stop and passes on the nodes' steps at each wait.

    Args:
        clock: the underlying clock.
        store: the source of requests to stop and of steps.
        steps: the file that steps are appended to.
        besides: called with the time at each wait.
    """

    def __init__(self, clock: Clock, store: LiveStore, steps: Path, besides: Callable[[float], None]) -> None:
        self._clock = clock
        self._store = store
        self._steps = steps
        self._besides = besides

    def now(self) -> float:
        return self._clock.now()

    def charge(self, seconds: float, times: int = 1) -> None:
        self._clock.charge(seconds, times)

    def wait(self, until: float) -> None:
        """Raises StopRequestedError if the run is asked to stop."""
        self._store.check_stop()
        if told := self._store.steps():
            with self._steps.open("a", encoding="utf-8") as lines:
                lines.writelines(f"{json.dumps(asdict(step))}\n" for step in told)
        self._besides(self.now())
        self._clock.wait(until)

    def alarm(self, at: float) -> None:
        self._clock.alarm(at)


@dataclass
class Told:
    """The trainers' wall-clock seconds, as reported in their results; their optimizer states stay on the nodes."""

    train_s: float = 0.0
    data_s: float = 0.0

    def states(self) -> dict[str, State]:
        return {}

    def event(self, event: Event) -> None:
        if isinstance(event, UpdateFolded):
            self.train_s += event.wall_train_s
            self.data_s += event.wall_data_s

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass
