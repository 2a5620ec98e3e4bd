"""How a command says in one line what is wrong with its input, and the exit codes of commands."""

import sys
from collections.abc import Callable

from fednano.core.ranks import rank

BAD_INPUT = 2  # the exit code of commands that refuse their input
INTERRUPTED = 130
REFUSAL = "fednano: "  # begins the line that says why


class ConfigError(ValueError):
    """Bad input of the user's; its text is one line with key, value and remedy."""


def refuse(error: Exception) -> int:
    """Print why input was refused and return the exit code for it."""
    if not rank():
        print(f"{REFUSAL}{one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def guarded(command: Callable[[], int]) -> int:
    """Run a command whose ValueErrors mean bad input; the exit code."""
    try:
        return command()
    except ValueError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("fednano: interrupted", file=sys.stderr)
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """What an error says, its line breaks as spaces."""
    return " ".join(str(error).split())
