"""Claims of folders: one process at a time writes a folder, also on a file system that several machines share."""

import errno
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

CLAIM = ".claim"  # the file in a claimed folder, which says who claimed it
ABANDONED_S = 600.0  # a claim whose owner's end cannot be seen from here counts as left behind after this long


class ClaimedError(ValueError):
    """Another process has claimed the folder, which is unchanged."""


class Claim:
    """A folder that this process has claimed, until `release` or its end.

    The system unlocks the claim of a process that dies, so that the folder can be claimed again.
    """

    def __init__(self, folder: Path, file: IO[str], made: tuple[Path, ...]) -> None:
        self.folder = folder
        self._file = file
        self._made = made  # folders that did not exist before, innermost first

    def release(self) -> None:
        """Give the folder up, and remove whichever folders were made for it and are still empty."""
        with suppress(OSError):
            if _is_at(self._file, self.folder / CLAIM):
                (self.folder / CLAIM).unlink()
        self._file.close()
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()


def claim(folder: Path) -> Claim:
    """Claim `folder`, which is made if it does not exist. Nothing else in it is touched.

    Raises:
        ClaimedError: another process has claimed it.
        OSError: the folder cannot be made or written.
    """
    while True:
        made = tuple(_missing(folder))
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed meanwhile by a process that gave it up
            return Claim(folder, _new(folder / CLAIM), made)


def claim_new(folder: Path) -> Claim:
    """Make `folder` and claim it; if it exists, the first of `folder`_1, `folder`_2, … that does not.

    Raises OSError if none can be made.
    """
    made = tuple(_missing(folder.parent))
    for number in count():
        free = folder.with_name(f"{folder.name}_{number}") if number else folder
        free.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError, ClaimedError):
            free.mkdir()
            return Claim(free, _new(free / CLAIM), (free, *made))
    raise AssertionError("counting never ends")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Claim `folder` for the block, unless a process has claimed it: this one, or another.

    For a run, whose event log is locked as well: that other process is only met there.
    """
    mine: Claim | None = None
    with suppress(ClaimedError, OSError):
        mine = claim(folder)
    try:
        yield
    finally:
        if mine:
            mine.release()
    remove_left(folder)  # the claim of a process whose end could not be seen from here


def remove_left(folder: Path) -> None:
    """Remove the claim that a killed process left in `folder`, unless a living one on this machine holds it.

    For whoever has just written the folder under another lock, as a resumed run has under that of its event log.
    """
    path = folder / CLAIM
    with suppress(OSError), path.open("r+", encoding="utf-8") as file:
        if _lock(file) is not False and _is_at(file, path):
            path.unlink()


def claimant_lives(folder: Path) -> bool | None:
    """Whether the process that claimed `folder` lives; None if there is no claim, or none that this machine can judge.

    Only looks: unlike `claim`, it takes no lock that another process might meet.
    """
    try:
        owner = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
        return _alive(int(owner["pid"])) if owner["host"] == socket.gethostname() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _missing(folder: Path) -> Iterator[Path]:
    """The folders that have to be made for `folder`, innermost first."""
    while not folder.exists():
        yield folder
        folder = folder.parent


def _new(path: Path) -> IO[str]:
    """The file of a new claim, locked. Raises ClaimedError, or FileNotFoundError if its folder is gone."""
    while True:
        try:
            file = path.open("x", encoding="utf-8")
        except FileExistsError:
            _remove_abandoned(path)
            continue
        # Locked before the owner's name is in it: a claim with a name and without a lock was left behind. Another
        # process may hold the lock for a moment, to look at the claim.
        _lock(file, fcntl.LOCK_EX)
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        file.flush()
        return file


def _remove_abandoned(path: Path) -> None:
    """Remove the claim at `path` if whoever made it is gone. Raises ClaimedError if not."""
    with suppress(FileNotFoundError), path.open("r+", encoding="utf-8") as file:
        owner: dict[str, object] = {"host": None, "pid": None}
        with suppress(ValueError):  # not yet written
            owner = json.load(file)
        locks = _lock(file)
        if locks is False or not _gone(owner, file, path.parent, seen=locks is True):
            raise ClaimedError(f"process {owner['pid'] or 'unknown'} on {owner['host'] or 'some machine'}")
        if _is_at(file, path):
            path.unlink()


def _gone(owner: dict[str, object], file: IO[str], folder: Path, seen: bool) -> bool:
    """Whether the owner of a claim has ended; `seen` if its lock would have been noticed, were it on this machine."""
    if owner["host"] == socket.gethostname():
        return seen or not _alive(int(str(owner["pid"])))
    with tempfile.TemporaryFile(dir=folder) as now:  # by the clock of the file system
        return os.fstat(now.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime > ABANDONED_S


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _lock(file: IO[str], how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> bool | None:
    """Lock a claim; False: another process has locked it; None: this file system has no locks."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether `path` is still the file that is open here."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
