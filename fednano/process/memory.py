"""The machine's memory, and settings that let a step or message reuse the memory that the last one freed."""

import ctypes
import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Names and numbers of glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
GROWTH = 1 << 26  # minimum bytes by which the heap grows
NEW_OBJECTS = 100_000  # between two collections; the default is 700
OWN = Path("/proc/self")  # what the kernel tells of this process
# Where the kernel says how much memory the processes of this group may take, if they are in one with a limit.
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_bytes() -> int:
    """Bytes of memory that this process may take: the machine's, or less in a container with a limit."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUPS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found)


def keep_freed_memory() -> bool:
    """Make the allocator keep freed memory; returns False if it is not glibc's, which is the only one supported.

    By default every large tensor is mapped anew and its pages are faulted in one by one, which on a virtual machine may
    take longer than the arithmetic on them. With this setting, the process holds its peak memory until it ends.
    """
    return _tell((TRIM_THRESHOLD, -1), (TOP_PAD, GROWTH), (MMAP_MAX, 0))


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Have the allocator return every large block as soon as it is freed, within the block, if it is glibc's.

    The memory that this process holds is then what it uses, which makes it worth measuring.
    """
    _tell((MMAP_THRESHOLD, 1 << 17))
    try:
        yield
    finally:
        _tell((MMAP_THRESHOLD, 1 << 25))  # where the threshold, which grows by itself, ends


def most_growth(work: Callable[[], object]) -> int:
    """Most bytes by which this process grows while it does `work`; 0 if the kernel cannot tell."""
    gc.collect()
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
        malloc_trim(0)
    try:
        with returning_freed_memory():
            (OWN / "clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
            before = _status("VmRSS")
            work()
            return max(0, _status("VmHWM") - before)
    except OSError:
        return 0


def _status(key: str) -> int:
    """A figure of this process, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", (OWN / "status").read_text(encoding="ascii"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def share_heaps() -> bool:
    """Make threads share one heap from now on; returns False if the allocator is not glibc's, as above.

    By default there are up to eight heaps per core, and none reuses memory freed by another. If threads come and go
    with every message, each heap keeps room for the largest message, and the process grows until all heaps have done
    so. Call this before nine heaps exist.
    """
    return _tell((ARENA_MAX, 1))


def _tell(*settings: tuple[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(key, value) for key, value in settings)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Collect garbage cycles rarely within the block, for work with many small objects and hardly any cycles.

    By default the collector traverses new objects every few events, and all live objects every so often.
    """
    threshold = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
