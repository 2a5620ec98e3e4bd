"""Failures from outside the program, such as a full disk, each told in one line with its cause and remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in this user's quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "make its disk writable",
    errno.EACCES: "let this user access it",
    errno.EPERM: "let this user access it",
    errno.EIO: "check its disk, and restore the file if it was being read",
    errno.ESTALE: "connect its disk again",
    errno.ENOENT: "restore it",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files of this machine",
}


class OutsideError(Exception):
    """A failure from outside the program; the text is one line with the cause and the remedy."""


class StorageError(OSError):
    """A file cannot be used; the text is one line with the file, the cause and the remedy."""

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


def explained(error: BaseException) -> str | None:
    """The cause and the remedy in one line; None unless the failure came from outside the program."""
    for cause in causes(error):  # also as the cause of an error that says what was being done
        if isinstance(cause, StorageError | OutsideError):
            return str(cause)
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return None
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else "a file"
    return f"{file} cannot be used ({os.strerror(error.errno)}); {REMEDIES[error.errno]}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on; each once, also where they go in a circle."""
    told: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is known for known in told):
        told.append(cause)
        yield cause
        cause = cause.__cause__


def in_one_line(error: BaseException) -> str:
    """What an error says, for a file that people read: its cause and remedy, or else its type and text."""
    return explained(error) or " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within the block, an OSError that names no file gets the name of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise named(error.errno, path) from error


def named(number: int, path: Path) -> OSError:
    """The OSError of this number and this file."""
    return OSError(number, os.strerror(number), str(path))
