"""Standard output and error that cannot end a run: lost readers, full disks and missing characters are passed over.

A run's results are its files; what it prints only shows them. `tolerate_output` replaces the interpreter's streams.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

STANDARD = (0, 1, 2)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what is written later may fit again


class _Tolerant(io.RawIOBase):
    """A file descriptor to which every write succeeds.

    Once its reader is gone (a closed pipe, a dead terminal) the descriptor leads to nowhere, also for child processes
    that are started later.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.gone = False

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another process has made the pipe non-blocking
                with suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [])
            except OSError as error:
                if error.errno not in FULL:
                    self._lose()
                break
        return size

    def _lose(self) -> None:
        self.gone = True
        with suppress(OSError):
            _to_nowhere(self._descriptor)


class _TolerantText(io.TextIOWrapper):
    """Text over a `_Tolerant` descriptor, which closing leaves open."""

    def __init__(self, raw: _Tolerant, like: TextIO | None) -> None:
        unbuffered = like is not None and getattr(like, "write_through", False)
        buffer: Any = raw if unbuffered else io.BufferedWriter(raw)
        super().__init__(
            buffer,
            encoding=like.encoding if like else "utf-8",
            errors="replace",
            line_buffering=like is not None and bool(like.line_buffering),
            write_through=unbuffered,
        )
        self.raw = raw


def tolerate_output() -> None:
    """From now on, printing never fails in this process. To be called once a process starts, before it prints.

    Characters that the encoding lacks are replaced; what has no reader or no space is dropped. Streams that are not the
    interpreter's own, such as those of a test, stay as they are.
    """
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would get this number, and with it all that is printed
            with suppress(OSError):
                _to_nowhere(descriptor)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _tolerant(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _tolerant(sys.stderr, 2)


def reader_gone() -> bool:
    """Whether standard output is known to have lost its reader, so that nothing printed from now on is seen."""
    return isinstance(sys.stdout, _TolerantText) and sys.stdout.raw.gone


def _tolerant(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None:
        with suppress(OSError):
            stream.flush()
        # Handlers of log lines may have kept the interpreter's own stream.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return _TolerantText(_Tolerant(descriptor), stream)


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
