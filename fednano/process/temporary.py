"""Temporary folders of runs: removed as their run ends, or by a later one where it was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, UNLOCKED = "fednano_", "fednano-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that only this user can read; locked as long as it is used, and removed at the end.

    Those that this user's runs have left, killed before they could remove them, are removed first. Its name is short:
    Unix sockets lie in it, whose paths end at some 100 characters.
    """
    _sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=UNLOCKED))  # for this user alone
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # It gets the name that others look for once they find it locked.
        folder = made.rename(made.with_name(made.name.replace(UNLOCKED, PREFIX, 1)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _sweep(where: Path) -> None:
    """Remove what nobody holds a lock on."""
    for left in where.glob(f"{PREFIX}*"):
        try:
            folder = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, no folder, or gone by now
        try:
            if os.fstat(folder).st_uid == os.getuid() and _unused(folder):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(folder)


def _unused(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
