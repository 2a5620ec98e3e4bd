"""Prefetching: a thread makes the next items while the last one is in use."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
DEPTH = 2  # items that a step can need before the thread is scheduled again


@dataclass(frozen=True)
class _End:
    """The end of the items; `error` is the cause if the thread failed."""

    error: BaseException | None = None


class Ahead(Generic[T]):
    """The items of an iterable, in order, made by a thread at most `depth` items ahead.

    Use it in a `with` block: the end of the block, also by an exception, ends the thread. If the thread fails, the
    items made before are yielded, and then RuntimeError is raised with its cause.
    """

    def __init__(self, items: Iterable[T], depth: int = DEPTH) -> None:
        self._slots = Semaphore(depth)
        self._made: SimpleQueue[T | _End] = SimpleQueue()
        self._closed = False
        self._end: _End | None = None
        self._thread = Thread(target=self._make, args=(iter(items),), name="fednano-ahead", daemon=True)

    def __enter__(self) -> "Ahead[T]":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        self._slots.release()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._end is None:
            made = self._made.get()
            if not isinstance(made, _End):
                self._slots.release()
                return made
            self._end = made
        if self._end.error is not None:
            raise RuntimeError(f"the next batch could not be made ({self._end.error!r})") from self._end.error
        raise StopIteration

    def _make(self, items: Iterator[T]) -> None:
        try:
            while True:
                self._slots.acquire()
                if self._closed:
                    return
                self._made.put(next(items))
        except StopIteration:
            self._made.put(_End())
        except BaseException as error:
            self._made.put(_End(error))
