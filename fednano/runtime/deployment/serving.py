"""Between the process that serves a live run and the one that shows it: files of a control folder, and a signal.

`LOCK` is locked as long as the server serves and holds its process id; `STEPS` takes the inner steps that the nodes
have told, `ACTIONS` what was done to the nodes, for the event log. A SIGUSR1 asks the run to stop.
"""

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fednano.coordination.store import LiveStore
from fednano.core.inner_step import InnerStep

LOCK, STEPS, ACTIONS = "server.lock", "steps.jsonl", "actions.jsonl"


@contextmanager
def serving(control: Path) -> Iterator[None]:
    """Hold the lock that tells whoever follows that this process serves; it goes with the process."""
    with (control / LOCK).open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def server_pid(control: Path) -> int | None:
    """The process that serves; 0 once it is gone, None while none has begun."""
    path = control / LOCK
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as lock:
        text = lock.read()
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(text) if text else None
    return 0 if text else None


class StopSignal:
    """A SIGUSR1 within the block asks the coordination store to stop the run, once there is a coordination store."""

    def __init__(self) -> None:
        self._store: LiveStore | None = None
        self._asked = False

    def __enter__(self) -> "StopSignal":
        self._before = signal.signal(signal.SIGUSR1, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGUSR1, self._before)

    def tell(self, store: LiveStore) -> None:
        """From now on `coordination store` is told; at once if the signal has come before."""
        self._store = store
        if self._asked:
            store.request_stop()

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True
        if self._store:
            self._store.request_stop()


def read_step(line: str) -> InnerStep:
    """The inverse of a line of `STEPS`."""
    return InnerStep(**json.loads(line))
