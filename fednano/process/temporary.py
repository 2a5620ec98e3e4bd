"""Temporary folders of runs: removed at the end of the run, or by a later run if it was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, UNLOCKED = "fednano_", "fednano-"
MARK = ".fednano"  # a file in each of these folders: the user's own may be named like them


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that only this user can read; locked while it is used, and removed at the end.

    Folders left by this user's killed runs are removed first. The name is short, since it is part of the paths of Unix
    sockets, which are limited to about 100 characters.
    """
    _sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=UNLOCKED))  # readable by this user only
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (made / MARK).touch()
        # Other runs look for this name, so the folder gets it only once it is locked.
        folder = made.rename(made.with_name(made.name.replace(UNLOCKED, PREFIX, 1)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _sweep(where: Path) -> None:
    """Remove folders that a killed run made and no process has locked."""
    for left in where.glob(f"{PREFIX}*"):
        try:
            folder = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, not a folder, or gone by now
        try:
            if os.fstat(folder).st_uid == os.getuid() and _unused(folder) and (left / MARK).is_file():
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(folder)


def _unused(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
