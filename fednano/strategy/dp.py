"""Client-level differential privacy: clipped updates, Gaussian noise on their mean, and the privacy spent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fednano.core import tensors
from fednano.core.randomness import generator
from fednano.core.ranges import MOST, Range
from fednano.core.tensors import BLOCK, State
from fednano.strategy.base import Accumulator, ServerState, Update
from fednano.strategy.merging.base import Merge
from fednano.strategy.merging.mean import Mean


class Averaging(Protocol):
    """What a strategy with differential privacy is checked for."""

    @property
    def weighting(self) -> str | None: ...

    @property
    def merging(self) -> Merge: ...


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Clips what each client adds to a merge to the norm C, and adds noise to the mean of n updates.

    Every entry of the mean gets Gaussian noise of standard deviation zC/n. So the sum has noise of zC, and one client
    changes it by at most C. Source: McMahan et al. 2018 (1710.06963), with a fixed norm for the whole update.

    Args:
        clip: C, the largest norm of a client's updates in a merge, over all tensors together.
        noise_multiplier: z.
        delta: δ, for which ε is reported.
        seed: seed of the noise. Whoever knows it can subtract the noise.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    clip: Annotated[float, Range(le=MOST)]
    noise_multiplier: Annotated[float, Range(le=MOST)]
    delta: Annotated[float, Range(le=1)] = 1e-5
    seed: int = 0

    def __post_init__(self) -> None:
        for key, remedy in (("clip", "use the norm of a typical update"), ("noise_multiplier", "1 is usual")):
            if not getattr(self, key) > 0.0:
                raise ValueError(f"strategy.dp.{key} must be > 0, got {getattr(self, key)}; {remedy}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(
                f"strategy.dp.delta must be > 0 and < 1, got {self.delta}; use less than 1 / number of clients"
            )

    def check(self, strategy: Averaging) -> None:
        """Raise ValueError unless a strategy merges by the mean of all updates alike, whose sensitivity is known."""
        cls = f"{type(strategy).__module__}.{type(strategy).__name__}"
        if not cls.startswith("fednano."):
            raise ValueError(
                f"strategy._target_ must be one of fednano's strategies with strategy.dp=gaussian, got {cls}, whose "
                "merges may reveal more than is reported; use such a strategy or strategy/dp=none"
            )
        if strategy.weighting not in (None, "uniform"):
            raise ValueError(
                f"strategy.weighting must be uniform with strategy.dp=gaussian, got "
                f"{strategy.weighting}; use uniform or strategy/dp=none"
            )
        if type(strategy.merging) is not Mean:
            raise ValueError(
                "strategy.merging must be the mean with strategy.dp=gaussian, whose noise is for the mean, got "
                f"{type(strategy.merging).__name__}; use strategy/merging=mean or strategy/dp=none"
            )

    def over(self, mean: Accumulator, state: ServerState) -> Accumulator:
        """`mean`, of clipped updates and with noise. It must give all updates that it gets the same weight."""
        return Private(self, mean, state.version)

    def noise(self, mean: State, updates: int, version: int) -> None:
        """Add the noise of the merge onto this version of the global model to the mean of so many updates, in place.

        The generator is named by the mean's digest too. So the same merge has the same noise when it is replayed, but
        if a killed live run merges other updates when it is resumed, the difference of both merges hides them as well.
        """
        deviation, digest = self.noise_multiplier * self.clip / updates, tensors.digest(mean)
        for name, tensor in mean.items():
            draws, flat = generator(self.seed, version, "dp", digest, name), tensor.view(-1)
            for start in range(0, flat.numel(), BLOCK):
                block = flat[start : start + BLOCK]
                noise = draws.standard_normal(block.numel(), dtype=np.float32)
                block.add_(torch.from_numpy(noise), alpha=deviation)

    def spent(self, merges: int) -> dict[str, Any]:
        """The privacy spent by so many merges, for a summary. Raises ValueError without dp-accounting.

        A client is hidden by (ε, δ) even if it takes part in every merge. Participation follows availability, which is
        not a random draw, so nothing is credited to sampling.
        """
        return {
            "epsilon": epsilon(self.noise_multiplier, merges, self.delta),
            "delta": self.delta,
            "noise_multiplier": self.noise_multiplier,
            "clip": self.clip,
            "merges": merges,
        }


class Private:
    """Implements `Accumulator`: the mean of clipped updates, with noise.

    Args:
        dp: clip and noise.
        mean: accumulates the clipped updates.
        version: the version of the global model that they are merged onto.
    """

    def __init__(self, dp: Gaussian, mean: Accumulator, version: int) -> None:
        self._dp, self._mean, self._version = dp, mean, version
        self._updates = 0
        self._used: dict[str, float] = {}  # by client: the norms of what it has added

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update) -> None:
        # A client that left and came back may submit twice. What it adds in all is limited, not each of its updates.
        used = self._used.get(update.client, 0.0)
        length, room = tensors.norm(delta), max(0.0, self._dp.clip - used)
        if length > room:
            # Below 1 by more than the rounding of float32, so that the clipped norm is not above the limit.
            factor = room / length * (1.0 - 1e-6)
            delta = tensors.scaled(delta, factor)
        self._used[update.client] = used + min(length, room)
        self._updates += 1
        self._mean.add(delta, weight, update)

    def result(self) -> State:
        mean = self._mean.result()
        self._dp.noise(mean, self._updates, self._version)
        return mean


def epsilon(noise_multiplier: float, merges: int, delta: float) -> float:
    """ε at δ of so many Gaussian releases, each of noise multiplier z, to those who see all of them.

    T releases, each chosen after the previous ones, hide as much as one of noise multiplier z/√T (Dong, Roth and Su
    2019, 1905.02383), whose ε is known exactly (Balle and Wang 2018, 1805.06530).

    Raises:
        ValueError: dp-accounting is not installed.
    """
    try:
        from dp_accounting import get_epsilon_gaussian  # half a second, which runs without privacy do not need
    except ImportError as error:
        raise ValueError(
            "strategy.dp=gaussian needs dp-accounting, which is not installed; install it with: pip install "
            "'fednano[dp]', or use strategy/dp=none"
        ) from error
    return float(get_epsilon_gaussian(noise_multiplier / math.sqrt(merges), delta)) if merges else 0.0
