"""Works that are timed in turns, and the update that the benches of codecs and of merging share."""

import statistics
from collections.abc import Callable

import torch

from fednano.core.clock import Stopwatch
from fednano.core.tensors import State

NUMBER = 4  # bytes of a float32
WIDTH = 1024
LEAST = WIDTH  # entries of an update


class Turns:
    """The seconds of works, each with a name and a figure, over several rounds."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def time(self, name: str, figure: str, work: Callable[[], object]) -> None:
        """Do `work` once, and note how long it took."""
        watch = Stopwatch()
        with watch:
            work()
        self._seconds.setdefault((name, figure), []).append(watch.seconds)

    def medians(self) -> dict[str, dict[str, float]]:
        """The median seconds by name and figure, without the first round."""
        found: dict[str, dict[str, float]] = {}
        for (name, figure), times in self._seconds.items():
            found.setdefault(name, {})[figure] = statistics.median(times[1:])
        return found


def update(entries: int) -> State:
    """A normally distributed update of about as many entries: matrices of several sizes, and a vector."""
    draw = torch.Generator().manual_seed(0)
    shares = {"embedding": 0.4, "attention": 0.2, "mlp": 0.4}
    shapes = {name: (max(1, int(share * entries) // WIDTH), WIDTH) for name, share in shares.items()}
    return {name: torch.randn(shape, generator=draw) for name, shape in {**shapes, "scale": (64,)}.items()}
