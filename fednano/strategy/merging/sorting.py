"""Sorting of many tensors entry by entry, in blocks."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

from fednano.core.tensors import BLOCK, State


def entrywise(states: Sequence[State], reduce: Callable[[list[Tensor]], Tensor]) -> State:
    """Reduce each entry's sorted values over `states`, float32; temporaries are as large as a block of each state.

    `reduce` gets one tensor for each state, (n,): the smallest values first, the largest last.
    """
    merged: State = {}
    for name, first in states[0].items():
        flat = [state[name].reshape(-1) for state in states]
        out = torch.empty(first.numel())
        for start in range(0, out.numel(), BLOCK):
            # Adding 0 makes −0 a 0, since the two have no order.
            rows = [tensor[start : start + BLOCK] + 0.0 for tensor in flat]
            sort_rows(rows)
            out[start : start + BLOCK] = reduce(rows)
        merged[name] = out.reshape(first.shape)
    return merged


def sort_rows(rows: list[Tensor]) -> None:
    """Sort equally long tensors entry by entry, in place.

    A sorting network of whole-tensor minima and maxima is five times as fast as `torch.sort` for ten rows.
    """
    for low, high in network(len(rows)):
        smaller = torch.minimum(rows[low], rows[high])
        torch.maximum(rows[low], rows[high], out=rows[high])
        rows[low] = smaller


@cache
def network(n: int) -> tuple[tuple[int, int], ...]:
    """The comparisons that sort n values: Batcher's odd-even merge sort (Knuth, volume 3, algorithm 5.2.2M)."""
    return tuple(_comparisons(n))


def _comparisons(n: int) -> Iterator[tuple[int, int]]:
    size = 1
    while size < n:
        apart = size
        while apart:
            for first in range(apart % size, n - apart, 2 * apart):
                for low in range(first, first + min(apart, n - first - apart)):
                    if low // (2 * size) == (low + apart) // (2 * size):
                        yield low, low + apart
            apart //= 2
        size *= 2
