"""Verification of a corpus's files by their digests: once for each state of a file, since large ones take a while."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fednano.core.files import write_whole
from fednano.core.progress import Progress
from fednano.core.sealed import sealed, unsealed
from fednano.data.manifest import ShardFile

RECORD = ".verified.json"
CACHE = "~/.cache/fednano/verified"
SHOWN_BYTES = 512 << 20  # less is verified within a second
READ_BYTES = 4 << 20

FileState = list[Any]
"""What a file's verification is good for: size, time of change, inode and the digest that was found."""


def verify_once(folder: Path, files: Sequence[ShardFile], progress: Progress) -> None:
    """Read those of `files` that were not verified in their present state; a record beside them tells which were.

    In a folder that cannot be written, the record is kept in the user's cache. Raises ValueError for the first file
    whose SHA-256 is not the manifest's.
    """
    known = _recorded(folder)
    states = {file.name: _state(folder, file) for file in files}
    due = [file for file in files if known.get(file.name) != states[file.name]]
    if not due:
        return
    size = sum(file.file_bytes for file in due)
    shown = size >= SHOWN_BYTES
    if shown:
        progress.start(f"verifying {folder.name}", size, "bytes")
    try:
        for file in due:
            require_digest(folder, file, progress.advance if shown else _unshown)
    finally:
        if shown:
            progress.finish()
    _record(folder, states)


def require_digest(folder: Path, file: ShardFile, advance: Callable[[int], None]) -> None:
    """Raise ValueError unless the file has the manifest's SHA-256. `advance` is told of the bytes read."""
    path, digest = folder / file.name, hashlib.sha256()
    with path.open("rb") as opened:
        while piece := opened.read(READ_BYTES):
            digest.update(piece)
            advance(len(piece))
    if digest.hexdigest() != file.sha256:
        inside = path.resolve().parent == folder.resolve()
        remedy = f"delete {folder} to make it again" if inside else "delete it to download it again"
        raise ValueError(
            f"{path} is damaged: it has sha256={digest.hexdigest()}, but its manifest says {file.sha256}; {remedy}"
        )


def _unshown(_: int) -> None:
    pass


def _state(folder: Path, file: ShardFile) -> FileState:
    found = (folder / file.name).stat()
    # The time of the last change, unlike that of the last write, cannot be set back.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, file.sha256]


def _places(folder: Path) -> tuple[Path, Path]:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return folder / RECORD, Path(CACHE).expanduser() / f"{name}.json"


def _recorded(folder: Path) -> dict[str, FileState]:
    """The states in which files were verified; a record that is missing or damaged tells of none."""
    for place in _places(folder):
        with suppress(OSError, ValueError, KeyError):
            states: dict[str, FileState] = unsealed(place.read_bytes())["files"]
            return states
    return {}


def _record(folder: Path, states: dict[str, FileState]) -> None:
    """Write the record, as a whole, where that is possible; otherwise the files are verified again next time."""
    for place in _places(folder):
        with suppress(OSError):
            write_whole(place, sealed({"files": states}))
            return
