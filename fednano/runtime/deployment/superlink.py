"""A SuperLink of our own: started, given nodes and runs through its Control API, asked how a run is.

What is said here of Flower was found with flwr 1.41.0, whose HTTP clients are not public: look here when raising it.
"""

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.cli.build import build_fab_from_disk
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest, StartRunRequest, StopRunRequest
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME as IN_MEMORY
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

import fednano
from fednano.core.clock import pause, wall
from fednano.process.child import Child
from fednano.runtime.deployment.security import Certificates, make_node_key

START_S = 60.0
POLL_S = 0.1
# Seconds, 1 unless told otherwise; at 0.1 each SuperExec took an eighth of a busy core.
TASK_POLL = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
NOISE = ("[uvicorn.access]", "ControlServicer.ListRuns")
RAISED = "ServerApp failed with exception: "

T = TypeVar("T")


class UnreachableError(Exception):
    """The SuperLink does not answer."""


@dataclass(frozen=True)
class RunStatus:
    """How a run is. `finished`: it is over; then `failed` with `details`, or not.

    `raised`: the ServerApp itself ended in an exception, whose text is in `details`, and was not killed.
    """

    finished: bool
    failed: bool
    details: str

    @property
    def raised(self) -> bool:
        return self.details.startswith(RAISED)


def app_folder() -> Path:
    """The app bundle: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(fednano.__file__).parent
    inside = package / "app"
    return inside if inside.is_dir() else package.parent / "app"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path, secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of Flower's processes, whose own files go below `home`."""
    # Flower starts its programs by their bare names.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **TASK_POLL, "FLWR_HOME": str(home), "PATH": programs, **(secrets or {})}


class SuperLink:
    """The process, and its Control API under TLS.

    It keeps all in memory: every tensor passes through it twice, and a database takes longer than the network. Started
    again, it is told the nodes anew; what it knew of runs is lost, which did not go on anyway.

    Killed, it takes the ServerApp with it, since Flower's processes end with their parents.

    Args:
        folder: private; keys and Flower's own files go there.
        log: of the process.
        certificates: of the server.
        secrets: environment variables that the ServerApp is to see.
        host: where it listens.
        port: 0 for a free one.
    """

    def __init__(
        self,
        *,
        folder: Path,
        log: Path,
        certificates: Certificates,
        secrets: Mapping[str, str],
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.certificates = certificates
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        words: dict[str, str | Path] = {
            "--ssl-certfile": certificates.certificate,
            "--ssl-keyfile": certificates.key,
            "--ssl-ca-certfile": certificates.authority,
            "--database": IN_MEMORY,
            "--host": host,
            "--port": str(self.port),
            "--isolation": "subprocess",
        }
        flat: list[str | Path] = [word for pair in words.items() for word in pair]
        self.child = Child(
            "SuperLink",
            [
                *(sys.executable, "-m", "fednano.runtime.deployment.superlink_process"),
                "--enable-supernode-auth",
                # It would install what the bundle names beside what is installed.
                "--disable-runtime-dependency-installation",
                *flat,
            ],
            log=log,
            environment=environment(folder / "flwr", secrets),
            noise=NOISE,
        )
        self._control = ControlHttpClient.from_server_address(
            self.address,
            insecure=False,
            root_certificates=certificates.authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        self._bundle: Fab | None = None
        self._nodes: dict[str, bytes] = {}  # public keys by name

    def start(self) -> None:
        """Start it, wait until it answers, and tell it the nodes that it knew before.

        Raises RuntimeError, which says why, where it does not answer.
        """
        self.child.start()
        begun = wall()
        while True:
            try:
                self._ask(lambda: self._control.ListRuns(ListRunsRequest()))
                break
            except UnreachableError as error:
                if self.child.ended is not None:
                    raise RuntimeError(f"{self.child.cause()}\n{self.child.tail()}") from error
                if wall() - begun > START_S:
                    raise RuntimeError(f"SuperLink did not answer for {START_S:g} s\n{self.child.tail()}") from error
            pause(POLL_S)
        for name, public in self._nodes.items():
            self._let_in(name, public)

    def register(self, name: str) -> Path:
        """Let a node of this name in; the file of the private key that it shows."""
        key = self._folder / f"{name}.key"
        self._nodes[name] = make_node_key(key)
        self._let_in(name, self._nodes[name])
        return key

    def submit(self, config: Mapping[str, str | bool | int | float]) -> int:
        """Start a run of the app bundle with these keys of its configuration; its id."""
        if self._bundle is None:
            content = build_fab_from_disk(app_folder())
            self._bundle = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(
            fab=fab_to_proto(self._bundle), override_config=user_config_to_proto(dict(config)), federation=""
        )
        run: int = self._ask(lambda: self._control.StartRun(request)).run_id
        return run

    def status(self, run: int) -> RunStatus:
        """How a run is. Raises UnreachableError."""
        found = self._ask(lambda: self._control.ListRuns(ListRunsRequest(run_id=run))).run_dict[run].status
        return RunStatus(found.status == "finished", found.sub_status != "completed", found.details)

    def end_run(self, run: int) -> None:
        """Let Flower forget a run whose ServerApp is gone: its messages are void. Raises UnreachableError."""
        # One that is over already cannot be stopped.
        with suppress(httpx.HTTPStatusError):
            self._ask(lambda: self._control.StopRun(StopRunRequest(run_id=run)))

    def _let_in(self, name: str, public: bytes) -> None:
        self._ask(lambda: self._control.RegisterNode(RegisterNodeRequest(public_key=public, name=name)))

    def stop(self) -> None:
        # It waits for open connections before it ends.
        self._control.close()
        self.child.stop()

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except httpx.TransportError as error:
            raise UnreachableError(f"SuperLink at {self.address}: {error}") from error
