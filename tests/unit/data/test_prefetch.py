"""Batches made ahead: the same, in bounds, and no thread outlives its use."""

import threading
from collections.abc import Iterator

import pytest

from fednano.data.prefetch import Ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "fednano-ahead"]


def test_all_items_come_in_order_and_then_the_end() -> None:
    with Ahead(iter(range(500)), depth=3) as ahead:
        assert list(ahead) == list(range(500))
        assert next(ahead, "end") == "end"
        assert next(ahead, "end") == "end"
    assert threads() == []


def test_the_thread_is_no_more_than_its_depth_ahead() -> None:
    asked = threading.Semaphore(0)
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            asked.release()
            yield i

    with Ahead(items(), depth=2) as ahead:
        for used in range(5):
            for _ in range(2 if used == 0 else 1):
                assert asked.acquire(timeout=10)
            assert len(made) == used + 2
            assert next(ahead) == used
    assert threads() == []
    assert len(made) <= 7


def test_a_failure_reaches_the_user_with_its_cause_after_what_was_made() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("shard torn")

    with Ahead(items()) as ahead:
        assert next(ahead) == 1
        for _ in range(2):
            with pytest.raises(RuntimeError, match="shard torn") as caught:
                next(ahead)
            assert isinstance(caught.value.__cause__, OSError)
    assert threads() == []


@pytest.mark.parametrize("used", [0, 1, 5])
def test_no_thread_is_left_where_the_user_fails(used: int) -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    with pytest.raises(KeyError), Ahead(endless()) as ahead:
        for _ in range(used):
            next(ahead)
        assert threads() == ["fednano-ahead"]
        raise KeyError
    assert threads() == []
