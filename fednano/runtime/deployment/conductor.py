"""The conductor of a deployment: starts its processes, follows the run from its files, restarts what dies, ends all.

Every process is ended by its own id. The ServerApp's id is read from the file that it locks while it serves.
"""

import json
import os
import secrets
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fednano.config.quoting import quoted
from fednano.coordination.redis_link import URL_VARIABLE
from fednano.coordination.settings import Serving
from fednano.coordination.store import CoordinationStore, StopRequestedError
from fednano.core.clock import pause, wall
from fednano.core.event_log import from_line
from fednano.core.events import Event, ProvisionFailed, RoundStarted, SignalLost
from fednano.core.failures import StorageError, in_one_line
from fednano.core.lines import Lines
from fednano.flower.compat.superlink import RunStatus, UnreachableError
from fednano.process.child import Child
from fednano.process.restarts import RestartPolicy, Restarts, Verdict
from fednano.report import units
from fednano.report.sinks import REFUSAL
from fednano.report.terminal.console import Console
from fednano.runtime.deployment.following import outcome_of
from fednano.runtime.deployment.inbox import Inbox
from fednano.runtime.deployment.nodes.attendance import Attendance, Reach, store_value
from fednano.runtime.deployment.nodes.local import LocalNodes, redis_server, rerouted
from fednano.runtime.deployment.nodes.proxy import Proxy
from fednano.runtime.deployment.security import make_certificates
from fednano.runtime.deployment.serving import ACTIONS, FAILED, LOCK, REFUSED, STEPS, read_step, server_pid
from fednano.runtime.deployment.superlink import SuperLink, environment
from fednano.runtime.deployment.waiting import Waiting
from fednano.runtime.session import Outcome
from fednano.training.checkpoint import Checkpoints, write_json

POLL_S = 0.2
ASK_S = 1.0  # between two status requests to the SuperLink
FLOWERS_WORD_S = 5.0  # Flower reports a ServerApp's own exit at once, but its death only after a minute or more
SERVER_ENDS_S = 5.0
NODE_ENDS_S = 15.0  # the trainer ends after its current step, then the SuperNode


class BadInputError(ValueError):
    """The server refused the run as bad input that only it could find, such as invalid credentials of a logger."""


class Conductor:
    """One deployment, from start to end.

    Args:
        folder: the run folder, with the resolved configuration.
        logs: a folder for the processes' logs.
        private: a folder that only this user can read, for keys, sockets and Flower's own files.
        redis: the server of the coordination store, with its address.
        store: this process's coordination store; asked whether the run is to stop.
        console: makes a console that shows the run from its beginning.
        clients: the names of all clients.
        local: the clients whose nodes run on this machine.
        hosts: names and addresses of this machine, for nodes elsewhere.
        port: the SuperLink's port; 0 for a free one.
        restarts: how often each process that dies is restarted over the whole run.
        attend: makes the attendance, which says which local nodes run when.
        link: makes a client's link to some servers, given the client's index; None: nodes connect to them directly.
        at: seconds on the run's clock at which this process starts or resumes the run.
    """

    def __init__(
        self,
        *,
        folder: Path,
        logs: Path,
        private: Path,
        redis: Serving,
        store: CoordinationStore,
        console: Callable[[], Console],
        clients: Sequence[str],
        local: Sequence[str],
        hosts: Sequence[str],
        port: int,
        restarts: int,
        attend: Callable[[Reach], Attendance],
        link: Callable[[Sequence[tuple[str, int]], int], Proxy] | None = None,
        at: float = 0.0,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._private = private
        self._redis = redis
        self._store = store
        self._make_console = console
        self._clients = clients
        self._local = local
        self._hosts = hosts
        self._restarts = restarts
        self._run_name = secrets.token_hex(8)
        self._link = SuperLink(
            folder=private,
            log=logs / "superlink.log",
            certificates=make_certificates(private, hosts),
            secrets=redis.environment,
            host="0.0.0.0" if hosts else "127.0.0.1",
            port=port,
        )
        self._nodes: list[Child] = []
        self._links: dict[str, Proxy] = {}
        self._make_link = link
        self._attend = attend
        self._attendance: Attendance | None = None
        self._actions = Inbox(private / ACTIONS)
        self._at = at
        self._begun: float | None = None  # when the first round began, or waiting for one proved pointless
        policy = RestartPolicy(limit=restarts)
        self._lives: defaultdict[str, Restarts] = defaultdict(lambda: Restarts(policy, wall))
        self._run = 0
        self._stopping = self._told_to_stop = False
        self._asked_at = -ASK_S
        self._gone_at: float | None = None
        self._waiting = Waiting(private, local)
        self._console = console()
        self._event_log = Lines(folder / "events.jsonl")
        self._earlier = _content(folder / "summary.json")  # of the run before it was resumed
        self._steps = Lines(private / STEPS)

    def run(self, strategy: str, resume: bool) -> Outcome:
        """The whole run. An error is part of the outcome. Raises BadInputError if the server refuses the run."""
        summary: dict[str, Any] = {"status": "failed"}
        error: Exception | None = None
        try:
            self._start(resume)
            while (status := self._ended()) is None:
                self._follow()
                if self._begun is None:
                    self._waiting.tell(self._console.note)
                self._tend()
                self._heed()
                pause(POLL_S)
            self._follow()
            if status.raised and (self._private / REFUSED).exists():
                raise BadInputError((self._private / REFUSED).read_text(encoding="utf-8"))
            if status.raised and (self._private / FAILED).exists():
                raise StorageError((self._private / FAILED).read_text(encoding="utf-8"))
            if status.failed:
                raise RuntimeError(status.details)
            summary = json.loads((self._folder / "summary.json").read_text(encoding="utf-8"))
        except BadInputError:
            summary = REFUSAL
            raise
        except Exception as raised:
            error = raised
            summary = self._failed(raised)
        finally:
            self._console.close(summary)
        return outcome_of(strategy, summary, len(self._clients), error)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """The summary of a failed run: the ServerApp's if it wrote why, otherwise one that is written now."""
        path = self._folder / "summary.json"
        written = _content(path)
        summary: dict[str, Any] = json.loads(written) if written else {}
        if written == self._earlier or not summary.get("error"):
            summary = {**summary, "status": "failed", "ended_by": None, "error": in_one_line(error)}
            with suppress(OSError):
                write_json(path, summary)
        return summary

    def end(self) -> None:
        """End every remaining process, several at the same time."""
        if self._attendance:
            self._attendance.close()
        self._link.stop()
        # Without its SuperLink the ServerApp ends by itself, unless it hangs.
        begun = wall()
        while (pid := server_pid(self._private)) and wall() - begun < SERVER_ENDS_S:
            pause(POLL_S)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, resume: bool) -> None:
        self._console.note("starting the SuperLink …")
        self._link.start()
        for index, client in enumerate(self._clients):
            key = self._link.register(client)
            if client in self._local:
                self._nodes.append(self._node(client, index, key))
        self._console.note(self._described())
        nodes = LocalNodes({node.name: node for node in self._nodes}, self._links)
        self._attendance = self._attend(
            Reach(nodes, self._tell, partial(store_value, self._redis.address, self._run_name))
        )
        # The trainers take longest to become ready. The clock starts with the first round, if there can be one.
        if not self._attendance.begin(self._at):
            self._begun = wall()
        self._submit(resume)

    def _tell(self, event: Event) -> None:
        self._actions.put(event)
        if isinstance(event, ProvisionFailed):
            self._console.note(f"{event.action} of {event.client} failed: {event.cause}")
        if isinstance(event, SignalLost):
            self._console.note(f"{', '.join(event.clients)} count as down: {event.cause}")

    def _described(self) -> str:
        here = units.plural(len(self._nodes), "node")
        lines = [
            f"SuperLink at {self._link.address}, {here} here, Redis keys fednano:{self._run_name}:*; "
            f"logs in {self._logs}"
        ]
        if elsewhere := [client for client in self._clients if client not in self._local]:
            authority = self._link.certificates.authority
            lines.append(f"start these nodes elsewhere, each with {authority} and its own key:")
        for client in elsewhere:
            lines.append(
                f"  python -m fednano.node name={client} superlink={self._hosts[0]}:{self._link.port} "
                f"root_certificates={authority.name} private_key={client}.key"
            )
        return "\n".join(lines)

    def _node(self, client: str, index: int, key: Path) -> Child:
        own = self._private / client
        own.mkdir(mode=0o700)
        superlink, redis = self._link.address, self._redis.environment
        if self._make_link:
            port, url = self._link.port, redis[URL_VARIABLE]
            proxy = self._make_link([("127.0.0.1", port), *redis_server(url)], index)
            self._links[client] = proxy
            superlink = f"127.0.0.1:{proxy.ports[0]}"
            redis = {**redis, URL_VARIABLE: rerouted(url, proxy.ports[1:])}
        settings = {
            "name": client,
            "superlink": superlink,
            "run": self._run_name,
            "config": self._folder.resolve() / "config.yaml",
            "folder": own,
            "root_certificates": self._link.certificates.authority,
            "private_key": key,
        }
        words = [f"{key}={quoted(str(value))}" for key, value in settings.items()]
        secret = environment(own / "flwr", redis)
        command = [sys.executable, "-m", "fednano.node", *words]
        log = self._logs / f"{client}.log"
        return Child(client, command, log=log, environment=secret, grace_s=NODE_ENDS_S, orphan_s=0.0)

    def _submit(self, resume: bool) -> None:
        for told in (LOCK, FAILED):
            (self._private / told).unlink(missing_ok=True)
        self._gone_at, self._told_to_stop = None, False
        self._run = self._link.submit(
            {
                "folder": str(self._folder.resolve()),
                "control": str(self._private),
                "board": self._run_name,
                "resume": resume,
            }
        )

    def _follow(self) -> None:
        """Show new events of the event log, and the steps that nodes reported."""
        if (lines := self._event_log.new()) is None:
            # A ServerApp that resumes from its checkpoint truncates the event log there.
            self._console.stop()
            self._console, self._event_log = self._make_console(), Lines(self._folder / "events.jsonl")
        for line in lines or ():
            event = from_line(line)
            if self._begun is None and isinstance(event, RoundStarted):
                self._begun = wall()
            self._console.event(event)
        for line in self._steps.new() or ():
            self._console.step(read_step(line))

    def _tend(self) -> None:
        """Start and end nodes as the attendance says, and restart what has died.

        Raises RuntimeError, with the cause, if a process died too often.
        """
        assert self._attendance, "nothing was started"
        self._attendance.tend(self._at + (wall() - self._begun if self._begun is not None else 0.0))
        if self._redis.tend():
            self._note_death("Redis", "Redis died; it was restarted and repopulated", "")
        for node in self._nodes:
            if node.ended is not None and self._attendance.expects(node.name):
                self._note_death(node.name, node.cause(), node.tail())
                node.stop()
                node.start()
        if self._link.child.ended is not None:
            self._note_death("SuperLink", self._link.child.cause(), self._link.child.tail())
            self._link.child.stop()
            self._link.start()
            # The ServerApp died with it.
            self._resubmit()

    def _note_death(self, name: str, cause: str, tail: str) -> None:
        said = f"{cause}\n{tail}" if tail else cause
        if self._lives[name].died() is Verdict.TOO_OFTEN:
            raise RuntimeError(f"{said}\nit was restarted {self._restarts} times (runtime.restarts)")
        self._console.note(said)

    def _resubmit(self) -> None:
        """Start a new Flower run from the newest checkpoint; the event log continues from there."""
        with suppress(UnreachableError):
            self._link.end_run(self._run)
        self._submit(Checkpoints.exist(self._folder / "checkpoints"))

    def _ended(self) -> RunStatus | None:
        """The run's status once it has ended, else None. Restarts a ServerApp that died."""
        pid = server_pid(self._private)
        if pid:
            return None
        if pid == 0 and self._gone_at is None:
            self._gone_at = wall()
        if wall() - self._asked_at < ASK_S:
            return None
        self._asked_at = wall()
        try:
            status = self._link.status(self._run)
        except UnreachableError:
            return None  # `_tend` finds out whether it has died
        if status.finished and (not status.failed or status.raised):
            return status
        died = status.finished or (self._gone_at is not None and wall() - self._gone_at > FLOWERS_WORD_S)
        if died and self._link.child.ended is None:
            self._note_death("ServerApp", f"the ServerApp died {status.details}".rstrip(), self._link.child.tail())
            self._resubmit()
        return None

    def _heed(self) -> None:
        """Pass a request to stop on to the ServerApp."""
        if not self._stopping:
            try:
                self._store.check_stop()
            except StopRequestedError:
                self._stopping = True
        if self._stopping and not self._told_to_stop and (pid := server_pid(self._private)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
            self._told_to_stop = True


def _content(path: Path) -> bytes:
    """The content of a file; empty if there is none."""
    return path.read_bytes() if path.exists() else b""
