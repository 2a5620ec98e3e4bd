"""A disk that becomes sick, in every Python process whose PYTHONPATH holds this folder.

SICK=NAME:NUMBER:AFTER makes writes to files whose path contains NAME fail with the error NUMBER, after so many.
"""

import os
from pathlib import Path
from typing import Any

name, number, after = os.environ.get("SICK", "::").split(":")
seen = 0


def _check(path: str) -> None:
    global seen  # noqa: PLW0603  # of this process
    if name in path:
        seen += 1
        if seen > int(after):
            raise OSError(int(number), os.strerror(int(number)))


class _Sick:
    """A file whose writing may fail; everything else is passed on."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    def __enter__(self) -> "_Sick":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._file, attribute)

    def write(self, data: Any) -> int:
        _check(self._path)
        return int(self._file.write(data))


if name:
    _open, _pwrite = Path.open, os.pwrite

    def _opened(self: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = _open(self, mode, *given, **named)
        return _Sick(file, str(self)) if mode[0] in "wax" and name in str(self) else file

    def _written(file: int, data: Any, at: int) -> int:
        _check(str(Path(f"/proc/self/fd/{file}").readlink()))
        return _pwrite(file, data, at)

    Path.open = _opened  # type: ignore[assignment, method-assign]
    os.pwrite = _written
