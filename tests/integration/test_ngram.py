"""The n-gram baseline against a slow, obvious one."""

import math
from collections import Counter, defaultdict

import pytest
from support.ngram import bits_per_byte


def slow(train: list[str], held_out: list[str], order: int) -> float:
    follow: dict[bytes, Counter[int]] = defaultdict(Counter)
    for text in train:
        data = bytes(order) + text.encode()
        for i in range(order, len(data)):
            for k in range(order + 1):
                follow[data[i - k : i]][data[i]] += 1

    def probability(context: bytes, byte: int) -> float:
        lower = probability(context[1:], byte) if context else 1 / 255
        after = follow[context]
        total, kinds = sum(after.values()), len(after)
        return (after[byte] + kinds * lower) / (total + kinds) if total else lower

    bits, count = 0.0, 0
    for text in held_out:
        data = bytes(order) + text.encode()
        for i in range(order, len(data)):
            bits -= math.log2(probability(data[i - order : i], data[i]))
            count += 1
    return bits / count


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_equals_the_slow_one(order: int) -> None:
    train = ["the array is an array", "an index is not a name", "été"]
    held_out = ["the index of the array", "zebra"]
    assert bits_per_byte(train, held_out, order) == pytest.approx(slow(train, held_out, order), rel=1e-12)
