"""The `runtime/provisioner` choices, which provision and release machines as clients come and go."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from string import Formatter
from threading import Event as Flag
from typing import IO, Literal, Protocol

from fednano.core.clock import wall
from fednano.core.events import Event, Provisioned, ProvisionFailed, ProvisionRequested

ProvisionAction = Literal["start", "stop"]
PLACEHOLDERS = ("client", "index", "replicas")
LONGEST_WAIT_S = 60.0  # between two attempts
TAIL_BYTES = 4096
SECRET = re.compile("TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY|URL")


class ProvisionError(Exception):
    """An attempt failed; the text names the command, how it ended and its last line, and contains no secret."""


class Nodes(Protocol):
    """The nodes that can be started on this machine, by client."""

    def start(self, client: str) -> None:
        """Start a node that does not run. Raises OSError."""

    def stop(self, client: str) -> None:
        """Let a node submit and end; returns once it has ended."""


class MachineActor(Protocol):
    """Provisions and releases machines. Both calls block until that is done, and raise ProvisionError."""

    def start(self, client: str) -> None: ...

    def stop(self, client: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an action may take, and how often it is tried.

    Args:
        timeout_s: seconds per attempt.
        attempts: how often an action is tried; then it has failed until the signal changes again.
        backoff_s: seconds before the second attempt; doubled for each further one, up to a minute.
        at_once: number of simultaneous actions; others wait for their turn.
    """

    timeout_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 1.0
    at_once: int = 16

    def __post_init__(self) -> None:
        for key in ("timeout_s", "backoff_s"):
            if not 0.0 < getattr(self, key) < float("inf"):
                raise ValueError(
                    f"runtime.provisioner.{key} must be finite and > 0 s, got {getattr(self, key)}; "
                    "give seconds, such as 60"
                )
        for key in ("attempts", "at_once"):
            if getattr(self, key) < 1:
                raise ValueError(f"runtime.provisioner.{key} must be >= 1, got {getattr(self, key)}; raise it")

    def wait_s(self, failed: int) -> float:
        """Seconds before the next attempt after `failed` failed ones."""
        return min(LONGEST_WAIT_S, self.backoff_s * 2.0 ** (failed - 1))


@dataclass(frozen=True, kw_only=True)
class Unprovisioned:
    """Nothing is provisioned or released; clients come and go on their own.

    Args:
        name: the provisioner's name.
    """

    name: str = "none"


@dataclass(frozen=True, kw_only=True)
class Subprocess(Patience):
    """Starts and stops nodes on this machine.

    Args:
        name: the provisioner's name.
    """

    name: str = "subprocess"

    def actor(self, clients: Sequence[str], nodes: Nodes) -> MachineActor:
        return _Local(nodes)


@dataclass(frozen=True, kw_only=True)
class Command(Patience):
    """Runs a command for each action, without a shell.

    In the arguments, {client} stands for the client's name, {index} for its index, and {replicas} for 1 in `start` and
    0 in `stop`.

    Args:
        name: the provisioner's name.
        start: program and arguments that provision a client.
        stop: program and arguments that release a client.
    """

    name: str = "command"
    start: list[str]
    stop: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("start", "stop"):
            _check_template(f"runtime.provisioner.{key}", getattr(self, key))

    def actor(self, clients: Sequence[str], nodes: Nodes) -> MachineActor:
        return _Commands(self, {client: index for index, client in enumerate(clients)})

    def arguments(self, action: ProvisionAction, client: str, index: int) -> list[str]:
        """The command line of an action."""
        template = self.start if action == "start" else self.stop
        replicas = 1 if action == "start" else 0
        return [word.format(client=client, index=index, replicas=replicas) for word in template]


Provisioner = Unprovisioned | Subprocess | Command


def _check_template(key: str, words: Sequence[str]) -> None:
    if not words or not words[0]:
        raise ValueError(f"{key} must name a program, got {list(words)}; give it and its arguments as a list")
    for word in words:
        try:
            fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(word) if name is not None]
        except ValueError as error:
            raise ValueError(f"{key} cannot read {word} ({error}); write {{{{ and }}}} for literal braces") from error
        for name, spec, how in fields:
            if name not in PLACEHOLDERS or spec or how:
                known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                raise ValueError(f"{key} has the unknown placeholder {{{name}}} in {word}; use {known}")


@dataclass(frozen=True)
class _Local:
    nodes: Nodes

    def start(self, client: str) -> None:
        self._do(self.nodes.start, client)

    def stop(self, client: str) -> None:
        self._do(self.nodes.stop, client)

    @staticmethod
    def _do(act: Callable[[str], None], client: str) -> None:
        try:
            act(client)
        except OSError as error:
            raise ProvisionError(f"the node of {client}: {error}") from error


@dataclass(frozen=True)
class _Commands:
    command: Command
    index: Mapping[str, int]

    def start(self, client: str) -> None:
        run(self.command.arguments("start", client, self.index[client]), self.command.timeout_s)

    def stop(self, client: str) -> None:
        run(self.command.arguments("stop", client, self.index[client]), self.command.timeout_s)


def run(arguments: Sequence[str], timeout_s: float) -> None:
    """Run a command to its end. Raises ProvisionError, with its exit code and its last line of stderr."""
    # A file, since a pipe would stay open if the command leaves a process behind that holds it.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        except OSError as error:
            raise _failure(arguments, f"cannot be started ({error.strerror})", "") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise _failure(arguments, f"did not end within {timeout_s:g} s", _last_line(said)) from None
        if code:
            raise _failure(arguments, f"ended with exit code {code}", _last_line(said))


def _failure(arguments: Sequence[str], how: str, said: str) -> ProvisionError:
    return ProvisionError(redacted(f"{' '.join(arguments)} {how}" + (f": {said}" if said else ""), os.environ))


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = said.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """`text` without the values of environment variables whose names suggest secrets."""
    secrets = {value for name, value in environment.items() if SECRET.search(name.upper()) and len(value) >= 6}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@dataclass(kw_only=True)
class _Site:
    wants: bool = False
    wish: int = 0  # how often `wants` has changed
    has: bool | None = False  # None: unknown, since an action failed
    doing: Future[Provisioned | ProvisionFailed] | None = None
    action: ProvisionAction = "stop"  # the current or the last one
    tried: int = -1  # the value of `wish` that it followed
    failed: bool = False  # not tried again until `wants` changes


class Provisioning:
    """Provisions each client that should be up and releases all others; no client waits for another.

    Actions on one client run one after the other: if its target changes during one, the next follows afterwards. A
    client whose action has finally failed stays as it is until its target changes.

    Args:
        actor: carries out the actions.
        patience: how long an action may take and how often it is tried.
        clients: the names of all clients.
        tell: called with each event.
        now: seconds on the run's clock.
    """

    def __init__(
        self,
        actor: MachineActor,
        patience: Patience,
        clients: Iterable[str],
        tell: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        self._actor = actor
        self._patience = patience
        self._tell = tell
        self._now = now
        self._sites = {client: _Site() for client in clients}
        self._closing = Flag()
        self._pool = ThreadPoolExecutor(min(patience.at_once, len(self._sites)), "fednano-provision")

    def follow(self, wanted: Mapping[str, bool]) -> None:
        """Begin the actions that lead to `wanted`. Does not wait. Raises an action's unexpected error."""
        for client, wants in wanted.items():
            site = self._sites[client]
            if wants != site.wants:
                site.wants, site.wish, site.failed = wants, site.wish + 1, False
            self._collect(site)
            if site.doing is None and site.has != site.wants and not site.failed:
                self._begin(client, site)

    def has(self, client: str) -> bool:
        """Whether the client was provisioned at the last `follow`, and its release had not begun."""
        site = self._sites[client]
        return site.has is True and site.doing is None

    def settle(self) -> None:
        """Wait for the current actions. Raises an action's unexpected error."""
        wait([site.doing for site in self._sites.values() if site.doing])
        for site in self._sites.values():
            self._collect(site)

    def close(self) -> None:
        """Release every client, including those in an unknown state, and wait for it."""
        self._closing.set()
        try:
            self.settle()
            for client, site in self._sites.items():
                if site.has is not False:
                    site.wants = False
                    self._begin(client, site)
            self.settle()
        finally:
            self._pool.shutdown()

    def _begin(self, client: str, site: _Site) -> None:
        site.action, site.tried = "start" if site.wants else "stop", site.wish
        self._tell(ProvisionRequested(t=self._now(), client=client, action=site.action))
        site.doing = self._pool.submit(self._act, client, site.action)

    def _collect(self, site: _Site) -> None:
        """Take in the result of a finished action."""
        if site.doing and site.doing.done():
            outcome, site.doing = site.doing.result(), None
            succeeded = isinstance(outcome, Provisioned)
            site.has = site.action == "start" if succeeded else None
            site.failed = not succeeded and site.tried == site.wish
            self._tell(outcome)

    def _act(self, client: str, action: ProvisionAction) -> Provisioned | ProvisionFailed:
        begun = wall()
        act = self._actor.start if action == "start" else self._actor.stop
        attempt = 1
        while (cause := _attempt(act, client)) and attempt < self._patience.attempts:
            # On close, a start is given up; a stop is not.
            until = self._closing if action == "start" else Flag()
            if until.wait(self._patience.wait_s(attempt)):
                break
            attempt += 1
        t, wall_s = self._now(), wall() - begun
        if cause is None:
            return Provisioned(t=t, client=client, action=action, attempts=attempt, wall_s=wall_s)
        return ProvisionFailed(t=t, client=client, action=action, attempts=attempt, cause=cause, wall_s=wall_s)


def _attempt(act: Callable[[str], None], client: str) -> str | None:
    """Why the action failed; None if it succeeded."""
    try:
        act(client)
    except ProvisionError as error:
        return str(error)
    return None
