"""Asking a process to end: what SIGINT and SIGTERM do while it has something to end in order."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_end(told: Callable[[], None], again: bool = False) -> Iterator[None]:
    """The first SIGINT or SIGTERM within the block is told, a second one does what it did before.

    With `again`, all are told. `told` is called from a signal handler.
    """

    def handle(number: int, frame: object) -> None:
        told()
        if not again:
            restore()

    def restore() -> None:
        for signum, previous in before.items():
            signal.signal(signum, previous)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
