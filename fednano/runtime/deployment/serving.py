"""The control folder and the stop signal, between the process that serves a live run and the one that shows it.

`LOCK` is locked while the server serves and holds its process id. `STEPS` receives the inner steps that nodes report,
`ACTIONS` what was done to nodes, for the event log. `REFUSED` says why the server refused the run, if it did, and
`FAILED` which failure from outside the program made it fail. SIGUSR1 asks the run to stop.
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
REFUSED, FAILED = "refused", "failed"


@contextmanager
def serving(control: Path) -> Iterator[None]:
    """Hold the lock that shows followers that this process serves; the lock ends with the process."""
    with (control / LOCK).open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def server_pid(control: Path) -> int | None:
    """The id of the process that serves; 0 once it is gone, None before it has started."""
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
    """Within the block, SIGUSR1 asks the coordination store to stop the run, once the store is known."""

    def __init__(self) -> None:
        self._store: LiveStore | None = None
        self._asked = False

    def __enter__(self) -> "StopSignal":
        self._before = signal.signal(signal.SIGUSR1, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGUSR1, self._before)

    def tell(self, store: LiveStore) -> None:
        """From now on, pass the signal to `store`; at once if it has come already."""
        self._store = store
        if self._asked:
            store.request_stop()

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True
        if self._store:
            self._store.request_stop()


def read_step(line: str) -> InnerStep:
    """The inner step in a line of `STEPS`."""
    return InnerStep(**json.loads(line))
