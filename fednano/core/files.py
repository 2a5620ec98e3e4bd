"""Files and folders that appear whole or not at all, and are made by one process at a time."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

from fednano.core.failures import naming
from fednano.core.interrupts import unwinding
from fednano.core.progress import Progress

LEAST_ROOM = 1 << 16  # bytes


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, with the permissions of any new file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files other users cannot read.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.tmp")
    with unwinding(), naming(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all; creates the folder."""
    write_whole(path, text.encode())


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock on `path` among processes; the system releases it if its holder dies. The file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.start(f"waiting for another process to make {path.stem}", None, "")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            finally:
                progress.finish()
        yield


def made_once(folder: Path, ready: str, make: Callable[[Path], object], progress: Progress) -> None:
    """Make `folder` by `make(partial)`, unless its file `ready` exists already.

    What a killed process left is removed first. Of two processes, the second waits and then finds the folder made. A
    failure leaves nothing behind. Raises ValueError if `folder` exists without `ready`, since something else owns it.
    """
    if (folder / ready).exists():
        return
    with locked(folder.with_name(folder.name + ".lock"), progress):
        if (folder / ready).exists():
            return
        if folder.exists():
            raise ValueError(f"{folder} exists without a {ready}; move it away or set another data.root")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with unwinding():
            try:
                partial.mkdir()
                make(partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise


def require_writable(key: str, root: Path) -> None:
    """Raise ValueError unless folders can be made in `root`, which need not exist yet. Writes nothing."""
    present = root
    while not present.exists() and present != present.parent:
        present = present.parent
    if not present.is_dir():
        raise ValueError(f"{key}={root} lies under {present}, which is a file; give a folder")
    if not os.access(present, os.W_OK | os.X_OK):
        remedy = f"set {key} or FEDNANO_DATA" if key == "data.root" else f"set {key}"
        raise ValueError(f"{key} must be writable, got {root}; {remedy} to a folder that is")


def require_room(key: str, folder: Path) -> None:
    """Raise ValueError if there is no room at all on the disk of `folder`, which need not exist yet. Writes nothing."""
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = os.statvfs(present)
    free = disk.f_bavail if os.geteuid() else disk.f_bfree
    if free * disk.f_frsize < LEAST_ROOM or (disk.f_files and not disk.f_ffree):
        raise ValueError(f"{key} must be on a disk with room, got {folder}; make room there, or name another folder")
