"""Memory of a long-running process: what a step or a message frees, the next one takes again."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Names and numbers of glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
GROWTH = 1 << 26  # bytes by which the heap grows at least
NEW_OBJECTS = 100_000  # between two collections; by default 700


def keep_freed_memory() -> bool:
    """Tell the allocator to keep what is freed; whether it is glibc's, which can be told.

    By default every large tensor is mapped anew and its pages are faulted in one by one, which on a virtual machine may
    take longer than the arithmetic on them. The process then holds its largest need until it ends.
    """
    return _tell((TRIM_THRESHOLD, -1), (TOP_PAD, GROWTH), (MMAP_MAX, 0))


def share_heaps() -> bool:
    """Give threads that begin from now on no heap of their own; whether the allocator is glibc's, which can be told.

    By default there are up to eight for each core, and what one of them has freed no other takes. Where threads come
    and go with every message, each heap keeps room for the largest one: the process grows for as long as there are more
    to come. It has to be told before nine of them are there.
    """
    return _tell((ARENA_MAX, 1))


def _tell(*settings: tuple[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(key, value) for key, value in settings)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for cycles of garbage seldom, for a time that makes many small objects and hardly any cycles of them.

    By default the collector walks through them every few events, and through all that is alive every so often.
    """
    threshold = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
