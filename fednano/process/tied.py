"""Processes of Python's `multiprocessing` that are killed at once when the process that started them ends.

They are tied to it before they import what their work needs, which may take seconds.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from typing import Any

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Sealed:
    """Picklable values whose modules are imported not when they are unpickled, but when they are opened.

    Like the values themselves, they can be pickled only to start a process.
    """

    def __init__(self, *values: Any) -> None:
        self._values = values

    def __getstate__(self) -> bytes:
        return bytes(ForkingPickler.dumps(self._values))

    def __setstate__(self, state: bytes) -> None:
        self._state = state

    def open(self) -> Any:
        """The values, in a process that received them."""
        return pickle.loads(self._state)


def call(starter: int, sealed: Sealed) -> None:
    """The target of a process: tie it to the process `starter`, then call the first sealed value with the others."""
    end_with(starter)
    function, *arguments = sealed.open()
    function(*arguments)


def sealed(function: Callable[..., None], *arguments: Any) -> tuple[int, Sealed]:
    """The arguments of `call` for a process that this process starts."""
    return os.getpid(), Sealed(function, *arguments)


def end_with(starter: int) -> None:
    """Have this process killed when the thread that started it ends; `starter` is the process of that thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    else:
        Thread(target=_watch, name="fednano-starter", daemon=True).start()
    if os.getppid() != starter:
        _end()


def _watch() -> None:
    starter = parent_process()
    if starter:
        wait([starter.sentinel])
        _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
