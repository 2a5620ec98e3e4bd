"""Handling of SIGINT and SIGTERM while a process must end in order."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_end(told: Callable[[], None], again: bool = False) -> Iterator[None]:
    """Call `told` at the first SIGINT or SIGTERM within the block; a second one has its previous effect.

    With `again`, `told` is called at every signal. It runs in a signal handler.
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
