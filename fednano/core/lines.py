"""The lines of a file that another process appends to, as they come."""

from pathlib import Path


class Lines:
    """The complete lines of a file, read once each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes, up to the end of a line
        self._last = b""

    @property
    def read_bytes(self) -> int:
        """How much of the file has been read, in bytes."""
        return self._read

    def new(self) -> list[str] | None:
        """The lines since the last call, in UTF-8; an empty list while the file does not exist.

        None if the last line read is gone: the file was truncated, and other lines may have been appended since.
        """
        lines = self.more()
        return None if lines is None else [line.decode("utf-8") for line in lines]

    def more(self, limit: int | None = None) -> list[bytes] | None:
        """Like `new`, but undecoded, and at most about `limit` bytes of them."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read - len(self._last))
            data = file.read(len(self._last))
            if data != self._last:
                return None
            new = file.read() if limit is None else file.read(limit) + file.readline()
        lines = [line + b"\n" for line in new.split(b"\n")[:-1]]
        if lines:
            self._read, self._last = self._read + sum(map(len, lines)), lines[-1]
        return lines
