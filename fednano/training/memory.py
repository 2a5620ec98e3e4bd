"""Memory of a training process: what a step frees, the next one takes again."""

import ctypes

# Names and numbers of glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
GROWTH = 1 << 26  # bytes by which the heap grows at least


def keep_freed_memory() -> bool:
    """Tell the allocator to keep what is freed; whether it is glibc's, which can be told.

    By default every large tensor is mapped anew and its pages are faulted in one by one, which on a virtual machine may
    take longer than the arithmetic on them. The process then holds its largest need until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(key, value) for key, value in ((TRIM_THRESHOLD, -1), (TOP_PAD, GROWTH), (MMAP_MAX, 0)))
