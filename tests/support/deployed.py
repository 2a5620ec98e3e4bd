"""A deployment in a process of its own, as a user starts it, and what can be done to its processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis
from redis.exceptions import RedisError

from fednano.config.quoting import quoted
from fednano.coordination.redis_link import URL_VARIABLE
from fednano.coordination.store import Heartbeat
from fednano.core.clock import pause, wall
from fednano.core.event_log import read_log
from fednano.core.events import ChaosEnacted, Event
from fednano.process import guard, tree
from fednano.runtime.deployment.inbox import Inbox
from fednano.runtime.deployment.serving import ACTIONS, LOCK

WITHIN_S, CLEAR_S = 500.0, 30.0
GUARD = guard.__file__  # on the command line of every guard

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are listed in /proc")

E, T = TypeVar("E", bound=Event), TypeVar("T")


class Deployed:
    """`python -m fednano.run runtime=deployment …` in a process, whose temporary files lie in a folder of their own."""

    def __init__(self, overrides: list[str], folder: Path, temporary: str, output: Path | None = None) -> None:
        self.folder = folder
        self.temporary = temporary
        words = ["runtime=deployment", "runtime.transfer_s=60", *overrides]
        self.output = (output or folder.with_name("output")).open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fednano.run", *words, f"hydra.run.dir={quoted(str(folder))}"],
            env={**os.environ, "TMPDIR": temporary, "OMP_NUM_THREADS": "1"},
            cwd=folder.parent,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def events(self) -> list[Event]:
        """What is on the event log by now."""
        event_log = self.folder / "events.jsonl"
        return list(read_log(event_log)) if event_log.exists() else []

    def of(self, kind: type[E], **fields: object) -> list[E]:
        """The events of a kind on the event log whose fields have these values."""
        found = [event for event in self.events() if isinstance(event, kind)]
        return [e for e in found if all(getattr(e, name) == value for name, value in fields.items())]

    def until(self, there: Callable[[], T]) -> T:
        """Wait for something while the run goes on; what it is."""
        begun = wall()
        while not (found := there()):
            assert self.process.poll() is None and wall() - begun < WITHIN_S, self.said()
            pause(0.1)
        return found

    def server(self) -> int:
        """The ServerApp's process."""
        (lock,) = self._control(LOCK)
        return int(lock.read_text())

    def _control(self, name: str) -> list[Path]:
        """A file in the control folder, once it is there."""
        return list(Path(self.temporary).glob(f"fednano_*/{name}"))

    def url(self) -> str:
        """Where the coordination store is, with its password: in the ServerApp's environment alone."""
        variables = Path(f"/proc/{self.server()}/environ").read_text().split("\0")
        return dict(word.partition("=")[::2] for word in variables)[URL_VARIABLE]

    def heartbeat(self, client: str) -> Heartbeat | None:
        """What a client's node says of itself; None while it does not."""
        with suppress(RedisError, OSError, ValueError), closing(Redis.from_url(self.url())) as redis:
            for key in redis.keys(f"fednano:*:heartbeat:{client}"):
                return Heartbeat(**json.loads(redis.get(key) or ""))
        return None

    def redis(self) -> int:
        """The process of the Redis server, which has written its title over its environment."""
        started = tree.descendants(self.process.pid)
        (pid,) = [pid for pid in started if Path(f"/proc/{pid}/exe").readlink().name == "valkey-server"]
        return pid

    def note(self, client: str, action: str) -> None:
        """Have the server put onto the event log, at its time, what was just done to a client's node."""
        (lock,) = self._control(LOCK)
        Inbox(lock.with_name(ACTIONS)).put(ChaosEnacted(t=0.0, client=client, action=action, value=1.0))

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def process_of(self, *words: str) -> int:
        """The process whose command line has all these words, and which is no guard unless that is one of them."""
        (pid,) = [
            pid
            for pid, line in self.processes().items()
            if all(word in line for word in words) and (GUARD in words or GUARD not in line)
        ]
        return pid

    def kill_node(self, client: str) -> None:
        """SIGKILL to all processes of a client's node at once."""
        tree.kill(self.process_of(GUARD, f"name='{client}'"))

    def kill(self, *words: str) -> None:
        """SIGKILL to one process."""
        os.kill(self.process_of(*words), signal.SIGKILL)

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    def clear(self) -> None:
        """Wait until no process of the run is left: Flower's own notice that their parents have ended."""
        begun = wall()
        while left := self.left():
            assert wall() - begun < CLEAR_S, left
            pause(0.1)

    def left(self) -> list[str]:
        """The command lines of processes that this run has started and that are still there."""
        return list(self.processes().values())

    def processes(self) -> dict[int, str]:
        """The command lines of those processes by their ids."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.temporary.encode() in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has just ended, or is another user's
        return found
