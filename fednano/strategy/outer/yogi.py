"""Yogi: the outer step of FedYogi."""

from dataclasses import dataclass

from torch import Tensor

from fednano.strategy.outer.adam import Adam


@dataclass(frozen=True)
class Yogi(Adam):
    """Adam with v ← v − (1 − β₂)Δ²·sign(v − Δ²): v changes by Δ² at most, however large it is.

    Source: Reddi et al. 2021 (2003.00295), algorithm 2.
    """

    def follow(self, v: Tensor, square: Tensor) -> None:
        sign = (v - square).sign_()
        v.sub_(square.mul_(1.0 - self.beta2).mul_(sign))
