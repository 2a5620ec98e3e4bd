"""One-line error messages and exit codes of commands."""

import re
import sys
from collections.abc import Callable
from typing import Any

from fednano.core.failures import explained
from fednano.core.interrupts import LINE, code_of
from fednano.core.output import tolerate_output
from fednano.core.ranks import check_ranks, rank

FAILED = 1  # exit code of a command that fails after it began
BAD_INPUT = 2  # exit code of a command that refuses its input
SHOWN = 80  # characters of a value that a message shows
LONG_WORD, KEPT = re.compile(r"\S{500,}"), 80
LONGEST, END = 500, 140  # characters of a line, and those of them that its end gets, where the remedy stands
DIGITS = 40  # of a whole number
REFUSAL = "fednano: "  # prefix of the line that says why


class ConfigError(ValueError):
    """Bad user input; the text is one line with key, value and remedy."""


def refuse(error: Exception) -> int:
    """Print why the input was refused; returns the exit code."""
    return BAD_INPUT if rank() else _say(error)


def warn(text: str) -> None:
    """Print a line on stderr about something that the command goes on without; only rank 0 does."""
    if not rank():
        print(f"{REFUSAL}warning: {text}", file=sys.stderr, flush=True)


def guarded(command: Callable[[], int]) -> int:
    """Run a command in which a ValueError means bad input; returns the exit code, as `ended` does.

    Whatever becomes of standard output and error does not end the command.
    """
    tolerate_output()
    try:
        check_ranks()
    except ValueError as error:  # said by every process, since none knows whether it is rank 0
        return _say(error)
    try:
        return ended(command)
    except ValueError as error:
        return refuse(error)
    except OSError as error:
        if error.filename is None:
            raise
        return refuse(ConfigError(f"{error.filename}: {error.strerror}; check its permissions and the disk"))


def ended(command: Callable[[], int]) -> int:
    """Run a command; returns the exit code, also if a signal ends it, or a failure from outside the program."""
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("" if rank() else LINE)
        return code_of(interrupt)
    except ValueError:
        raise  # bad input
    except Exception as error:
        if explained(error) is None:
            raise
        return failed(error)


def failed(error: Exception) -> int:
    """Print the cause and the remedy of a failure from outside the program; returns the exit code."""
    print(f"{REFUSAL}{explained(error)}", file=sys.stderr)
    return FAILED


def _say(error: Exception) -> int:
    print(f"{REFUSAL}{one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def one_line(error: Exception) -> str:
    """The text of an error as one line, shortened in the middle if it is long, without OmegaConf's list of types."""
    own = str(error).partition("\n    full_key:")[0]
    line = LONG_WORD.sub(lambda word: f"{word[0][:KEPT]}… ({len(word[0])} characters)", " ".join(own.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - END]} … {line[-END:]}"


def encodable(text: str) -> bool:
    """Whether a text is Unicode throughout: other bytes of a command line or a path become halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as YAML writes it, at a length that a line can hold."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else _text(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}… ({len(text)} characters)"


def _text(value: Any) -> str:
    return _digits(value) if isinstance(value, int) else str(value) or "''"


def _digits(value: int) -> str:
    """A whole number, exactly; of a very long one, the first digits and the last."""
    if (bits := value.bit_length()) > 10_000:  # Python writes no numbers of more than 4300 digits
        return f"about {'-' if value < 0 else ''}10**{bits * 3 // 10}"
    text = str(value)
    return text if len(text) <= DIGITS else f"{text[: DIGITS // 2]}…{text[-DIGITS // 2 :]} ({len(text)} digits)"
