"""Files and folders that appear whole or not at all, and are made by one process at a time."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from fednano.core.failures import naming
from fednano.core.interrupts import unwinding
from fednano.core.progress import Progress
from fednano.core.text import decoded

LEAST_ROOM = 1 << 16  # bytes


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_stray(name: str) -> bool:
    """Whether a file of this name was left by a desktop or a network file system, so that no one means it as data."""
    return name.startswith(("._", ".nfs", ".fuse_hidden")) or name in (".DS_Store", "Thumbs.db", "desktop.ini")


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """A block that reads `path`: whatever the system or a library raises over it becomes a ValueError that names it.

    A folder, pipe or device in its place is refused, since reading one may wait forever. A ValueError of the block that
    names the file already passes as it is.
    """
    try:
        if not path.is_file():
            raise ValueError("it is not a file" if path.exists() else "it does not exist")
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if isinstance(error, LookupError | TypeError | AttributeError):
            said = repr(error)
        elif mark := getattr(error, "problem_mark", None):  # of a YAML file
            said = f"{getattr(error, 'problem', None)}, line {mark.line + 1}, column {mark.column + 1}"
        elif "maximum recursion depth" in said:
            said = "an alias to itself or too many levels within each other"
        raise ValueError(f"{path} cannot be read ({' '.join(said.split())}); {remedy}") from error


def read_text(path: Path, remedy: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, without that mark.

    Raises ValueError as `reading` does.
    """
    with reading(path, remedy):
        return decoded(path.read_bytes())


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError as `reading` does, also for JSON of another kind."""
    with reading(path, remedy):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__} where an object is needed")
        return found


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


def remove_unwritten(folder: Path) -> None:
    """Remove what killed processes left in `folder` of files of `write_whole`; no other process may write there."""
    for path in folder.iterdir():
        if re.fullmatch(r".+\.\d+\.\d+\.tmp", path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all; creates the folder."""
    write_whole(path, text.encode())


def write_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write into a temporary folder, then rename it to `target`; a failure leaves nothing behind."""
    remove_unfinished(target.parent, re.escape(target.name))
    temporary, replaced = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    with naming(target):
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            if target.exists():
                target.rename(replaced)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            raise
    shutil.rmtree(replaced, ignore_errors=True)


def remove_unfinished(parent: Path, names: str) -> None:
    """Remove what killed processes left in `parent` of folders of `write_folder` that match the expression `names`."""
    unfinished = re.compile(rf"\.(?:{names})\.\d+\.(?:tmp|old)")
    for path in parent.iterdir() if parent.is_dir() else ():
        if unfinished.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


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
        with unwinding():
            write_folder(folder, make)


def require_writable(key: str, root: Path) -> None:
    """Raise ValueError unless folders can be made in `root`, which need not exist yet. Leaves nothing behind."""
    present = root
    try:
        while not present.exists() and present != present.parent:
            present = present.parent
    except (OSError, ValueError) as error:  # too long a name, or a folder above that may not be read
        raise ValueError(f"{key} must be a folder, got {root} ({error}); give another one") from error
    if root == present and not present.is_dir():
        raise ValueError(f"{key} must be a folder, got {root}, which is a file; give a folder")
    if not present.is_dir():
        raise ValueError(f"{key}={root} lies under {present}, which is a file; give a folder")
    if not can_write(present):
        remedy = f"set {key} or FEDNANO_DATA" if key == "data.root" else f"set {key}"
        raise ValueError(f"{key} must be writable, got {root}; {remedy} to a folder that is")


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder: tried out, since a full or read-only disk is not in the permissions."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def require_room(key: str, folder: Path) -> None:
    """Raise ValueError if there is no room at all on the disk of `folder`, which need not exist yet. Writes nothing."""
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = os.statvfs(present)
    free = disk.f_bavail if os.geteuid() else disk.f_bfree
    if free * disk.f_frsize < LEAST_ROOM or (disk.f_files and not disk.f_ffree):
        raise ValueError(f"{key} must be on a disk with room, got {folder}; make room there, or name another folder")
