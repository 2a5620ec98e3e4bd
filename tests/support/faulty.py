"""Files that cannot be written: writes that raise an OSError of a chosen number, as a disk does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from safetensors import SafetensorError

from fednano.training import tensor_files


class _Faulty:
    """A file whose writing fails; everything else is passed on."""

    def __init__(self, file: IO[Any], number: int) -> None:
        self._file = file
        self._number = number

    def __enter__(self) -> "_Faulty":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        raise OSError(self._number, os.strerror(self._number))


@contextmanager
def unwritable(name: str, number: int, after: int = 0) -> Iterator[list[str]]:
    """Within the block, writing files whose path contains `name` fails, after so many such writes; yields its failures.

    It fails where the real call does: `write` of an open file, `pwrite`, or safetensors' own writing.
    """
    failed: list[str] = []
    seen = 0

    def fails(path: str) -> bool:
        nonlocal seen
        if name not in path:
            return False
        seen += 1
        if seen > after:
            failed.append(path)
        return seen > after

    opened, pwrite, save = Path.open, os.pwrite, tensor_files.save_file

    def open_(self: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = opened(self, mode, *given, **named)
        return _Faulty(file, number) if mode[0] in "wax" and fails(str(self)) else file

    def pwrite_(file: int, data: Any, at: int) -> int:
        if fails(str(Path(f"/proc/self/fd/{file}").readlink())):
            raise OSError(number, os.strerror(number))
        return pwrite(file, data, at)

    def save_(held: Any, path: Path, *given: Any) -> None:
        if fails(str(path)):
            raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
        save(held, path, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_)
        patch.setattr(os, "pwrite", pwrite_)
        patch.setattr(tensor_files, "save_file", save_)
        yield failed
