"""The deployment's own SuperLink: its process, and its nodes and runs through the Control API."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import fednano
from fednano.core.clock import pause, wall
from fednano.flower.compat.superlink import (
    IN_MEMORY,
    NOISE,
    TASK_POLL,
    ControlApi,
    Fab,
    RunStatus,
    UnreachableError,
    bundle,
)
from fednano.process.child import Child
from fednano.runtime.deployment.security import Certificates, make_node_key

START_S = 60.0
POLL_S = 0.1


def app_folder() -> Path:
    """The app bundle: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(fednano.__file__).parent
    inside = package / "app"
    return inside if inside.is_dir() else package.parent / "app"


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path, secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of Flower's processes, which keep their own files below `home`."""
    # Flower starts its programs by bare name.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # A configuration may name classes beside the command, which Python finds in its working directory.
    modules = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
    ours = {"FLWR_HOME": str(home), "PATH": programs, "PYTHONPATH": modules}
    return {**os.environ, **TASK_POLL, **ours, **(secrets or {})}


class SuperLink:
    """The SuperLink's process, and its Control API under TLS.

    It keeps everything in memory: every tensor passes through it twice, and a database is slower than the network.
    After a restart its nodes are registered again; it loses its runs, which could not have continued anyway.

    If it is killed, the ServerApp dies with it, since Flower's processes end with their parents.

    Args:
        folder: a private folder for keys and Flower's own files.
        log: the process's log.
        certificates: the server's certificates.
        secrets: additional environment variables for the ServerApp.
        host: the address it listens on.
        port: the port it listens on; 0 for a free one.
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
                # Otherwise Flower installs the bundle's dependencies next to the installed ones.
                "--disable-runtime-dependency-installation",
                *flat,
            ],
            log=log,
            environment=environment(folder / "flwr", secrets),
            orphan_s=0.0,  # a run without its starter is over
            noise=NOISE,
        )
        self._control = ControlApi(self.address, certificates.authority.read_bytes())
        self._bundle: Fab | None = None
        self._nodes: dict[str, bytes] = {}  # public keys by name

    def start(self) -> None:
        """Start it, wait until it answers, and register again the nodes that it knew before.

        Raises RuntimeError, with the cause, if it does not answer.
        """
        self.child.start()
        begun = wall()
        while True:
            try:
                self._control.check()
                break
            except UnreachableError as error:
                if self.child.ended is not None:
                    raise RuntimeError(f"{self.child.cause()}\n{self.child.tail()}") from error
                if wall() - begun > START_S:
                    raise RuntimeError(f"SuperLink did not answer for {START_S:g} s\n{self.child.tail()}") from error
            pause(POLL_S)
        for name, public in self._nodes.items():
            self._control.register_node(name, public)

    def register(self, name: str) -> Path:
        """Register a node under this name; returns the file of the private key that identifies it."""
        key = self._folder / f"{name}.key"
        self._nodes[name] = make_node_key(key)
        self._control.register_node(name, self._nodes[name])
        return key

    def submit(self, config: Mapping[str, str | bool | int | float]) -> int:
        """Start a run of the app bundle with this run configuration; returns the run's id."""
        if self._bundle is None:
            self._bundle = bundle(app_folder())
        return self._control.start_run(self._bundle, config)

    def status(self, run: int) -> RunStatus:
        """The status of a run. Raises UnreachableError."""
        return self._control.status(run)

    def end_run(self, run: int) -> None:
        """End a run whose ServerApp is gone; Flower drops its messages. Raises UnreachableError."""
        self._control.stop_run(run)

    def stop(self) -> None:
        # The SuperLink waits for open connections before it ends.
        self._control.close()
        self.child.stop()
