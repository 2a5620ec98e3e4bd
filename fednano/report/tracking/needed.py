"""Packages that a logger needs and that are optional."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(package: str, install: str) -> Iterator[None]:
    """A block that imports from `package`, which `pip install` gets by `install`.

    Raises ValueError if the package is not installed; other modules that are missing stay errors of their own.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ValueError(
            f"logger={package} needs {package}, which is not installed; install it with: pip install {install}, or use "
            "logger=local"
        ) from None
