"""Where tables are printed."""

from rich.console import Console

WIDTH = 140


def printer() -> Console:
    """The terminal; where output goes into a file or a pipe, one that is wide enough to cut no table."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
