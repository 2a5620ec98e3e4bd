"""Failures from outside the program: how they are told, wherever they stand in a chain of causes."""

import errno
import itertools

from fednano.core.failures import OutsideError, causes, explained


def chain(*errors: Exception) -> Exception:
    """The first error, each caused by the next one."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_a_failure_from_outside_is_found_among_the_causes() -> None:
    assert explained(chain(RuntimeError("a"), ValueError("b"), OutsideError("the disk is full"))) == "the disk is full"
    assert explained(chain(RuntimeError("a"), ValueError("b"))) is None


def test_causes_that_go_in_a_circle_are_told_once() -> None:
    first, second = RuntimeError("a"), ValueError("b")
    chain(first, second, first)
    assert list(causes(first)) == [first, second]
    assert explained(first) is None
    itself = OSError(errno.ENOSPC, "full", "file")
    chain(itself, itself)
    assert str(explained(itself)).startswith("file cannot be used")
