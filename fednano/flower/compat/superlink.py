"""Flower's SuperLink from the outside: its Control API, its settings, and known lines of its log.

The clients of the Control API are those of Flower's own command; they are not public.
"""

import hashlib
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

__all__ = ["IN_MEMORY", "NOISE", "RAISED", "TASK_POLL", "ControlApi", "Fab", "RunStatus", "UnreachableError", "bundle"]

# Seconds; Flower's default is 1. At 0.1, each SuperExec took an eighth of a busy core.
TASK_POLL = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
NOISE = ("[uvicorn.access]", "ControlServicer.ListRuns")  # in lines of its log that carry no information
RAISED = "ServerApp failed with exception: "

T = TypeVar("T")


class UnreachableError(Exception):
    """The SuperLink does not answer."""


@dataclass(frozen=True)
class RunStatus:
    """Status of a run: whether it is `finished`, and if so, whether it `failed`, with `details`.

    `raised`: the ServerApp was not killed but ended with an exception, whose text is in `details`.
    """

    finished: bool
    failed: bool
    details: str

    @property
    def raised(self) -> bool:
        return self.details.startswith(RAISED)


def bundle(folder: Path) -> Fab:
    """The app in `folder`, bundled as Flower ships it."""
    content = build_fab_from_disk(folder)
    return Fab(hashlib.sha256(content).hexdigest(), content, {})


class ControlApi:
    """Client of a SuperLink's Control API under TLS: registers nodes, starts and stops runs, and asks for their status.

    Every method raises UnreachableError if the SuperLink does not answer.

    Args:
        address: host:port.
        authority: the certificate, as PEM, that verifies the server's certificate.
    """

    def __init__(self, address: str, authority: bytes) -> None:
        self._address = address
        self._client = ControlHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def check(self) -> None:
        """Return once the SuperLink has answered."""
        self._ask(lambda: self._client.ListRuns(ListRunsRequest()))

    def register_node(self, name: str, public: bytes) -> None:
        """Register a node by its public key, as PEM."""
        self._ask(lambda: self._client.RegisterNode(RegisterNodeRequest(public_key=public, name=name)))

    def start_run(self, app: Fab, config: Mapping[str, str | bool | int | float]) -> int:
        """Start a run of `app` with this run configuration; returns the run's id."""
        request = StartRunRequest(
            fab=fab_to_proto(app), override_config=user_config_to_proto(dict(config)), federation=""
        )
        run: int = self._ask(lambda: self._client.StartRun(request)).run_id
        return run

    def status(self, run: int) -> RunStatus:
        """The status of a run."""
        found = self._ask(lambda: self._client.ListRuns(ListRunsRequest(run_id=run))).run_dict[run].status
        return RunStatus(found.status == "finished", found.sub_status != "completed", found.details)

    def stop_run(self, run: int) -> None:
        """Stop a run; Flower drops its messages. A finished run stays as it is."""
        with suppress(httpx.HTTPStatusError):
            self._ask(lambda: self._client.StopRun(StopRunRequest(run_id=run)))

    def close(self) -> None:
        self._client.close()

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except httpx.TransportError as error:
            raise UnreachableError(f"SuperLink at {self._address}: {error}") from error
