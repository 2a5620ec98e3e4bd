"""One-line error messages and exit codes of commands."""

import sys
from collections.abc import Callable

from fednano.core.ranks import rank

BAD_INPUT = 2  # exit code of a command that refuses its input
INTERRUPTED = 130
REFUSAL = "fednano: "  # prefix of the line that says why


class ConfigError(ValueError):
    """Bad user input; the text is one line with key, value and remedy."""


def refuse(error: Exception) -> int:
    """Print why the input was refused; returns the exit code."""
    if not rank():
        print(f"{REFUSAL}{one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def guarded(command: Callable[[], int]) -> int:
    """Run a command in which a ValueError means bad input; returns the exit code."""
    try:
        return command()
    except ValueError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("fednano: interrupted", file=sys.stderr)
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """The text of an error with its line breaks replaced by spaces."""
    return " ".join(str(error).split())
