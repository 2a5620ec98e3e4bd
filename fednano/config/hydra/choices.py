"""Choices as Hydra lists them: in its help, for a shell's completion, and for a sweep over glob(*)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl


@contextmanager
def without_parts() -> Iterator[None]:
    """A block in which Hydra lists no file whose name begins with an underscore: it is a part of other choices."""
    loaders: Any = ConfigLoaderImpl
    listed = loaders.get_group_options

    def choices(loader: ConfigLoaderImpl, *arguments: Any, **named: Any) -> list[str]:
        return [name for name in listed(loader, *arguments, **named) if not name.startswith("_")]

    loaders.get_group_options = choices
    try:
        yield
    finally:
        loaders.get_group_options = listed
