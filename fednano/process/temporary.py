"""Temporary folders of runs: removed at the end of the run, or by a later run if it was killed."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, UNLOCKED = "fednano_", "fednano-"
MARK = ".fednano"  # a file in each of these folders: the user's own may be named like them
SOCKET_BYTES = 103  # longest path of a Unix socket, on the strictest system
SOCKET = "trainer.sock"  # between the relay and the trainer of a node, in the node's folder
# Ray adds 82 bytes: the folder's name, a session with date, time and process id, and the socket's own name.
MOST_BYTES = 20
PLAIN = re.compile(r"[\w./-]+", re.ASCII)  # Ray joins command lines from paths
OTHERS = ("/tmp", "/var/tmp")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that only this user can read; locked while it is used, and removed at the end.

    Folders left by this user's killed runs are removed first. The path is short and plain, since it is part of the
    paths of Unix sockets, which are limited to about 100 bytes: a TMPDIR that is long or has special characters is not
    used. Raises ValueError if there is no other place.
    """
    place = socket_place()
    _sweep(place)
    made = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=place))  # readable by this user only
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (made / MARK).touch(mode=0o600)
        # Other runs look for this name, so the folder gets it only once it is locked.
        folder = made.rename(made.with_name(made.name.replace(UNLOCKED, PREFIX, 1)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def socket_place() -> Path:
    """The folder that holds temporary folders. Raises ValueError if none has a short and plain path."""
    own = tempfile.gettempdir()
    for place in (own, *OTHERS, os.environ.get("XDG_RUNTIME_DIR", "")):
        fits = len(os.fsencode(place)) <= MOST_BYTES and PLAIN.fullmatch(place)
        if fits and Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    raise ValueError(
        f"TMPDIR must be <= {MOST_BYTES} bytes of letters, digits and ._/- for the paths of sockets, got {own}; set "
        "TMPDIR or XDG_RUNTIME_DIR to such a folder"
    )


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
