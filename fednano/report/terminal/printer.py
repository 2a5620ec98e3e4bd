"""The console for tables."""

from rich.console import Console

WIDTH = 140


def printer() -> Console:
    """The terminal; for output into a file or a pipe, a console wide enough to cut no table."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
