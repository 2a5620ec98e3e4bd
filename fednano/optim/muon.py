"""Muon: momentum with an orthogonalised direction, for the matrices inside the blocks.

Sources: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Polar Express (2505.16932);
NorMuon (2510.05491); cautious weight decay as in nanochat (Karpathy, 2025).
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fednano.optim.grouped import Grouped

# Quintic coefficients that lift small singular values fastest (Jordan et al. 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Coefficients of the Polar Express, optimal for each step, with a safety factor of 0.02 and a cushion of 2.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Approximately the nearest semi-orthogonal matrix: singular values end between about 0.7 and 1.2.

    Args:
        matrices: (N, rows, cols) float32, one stack.
        steps: Newton-Schulz iterations X ← aX + (bA + cA²)X with A = XXᵀ.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


def polar_express(matrices: Tensor, steps: int) -> Tensor:
    """As `orthogonalize`, with different coefficients in each of at most 5 steps.

    The result is scaled to the Frobenius norm √min(rows, cols) of a semi-orthogonal matrix.
    """
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    for a, b, c in POLAR_EXPRESS[:steps]:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        x = polynomial @ x
    x = x.float()  # under autocast it is not
    x = x * (x.size(-2) ** 0.5 / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12))
    result: Tensor = x.mT if tall else x
    return result


def equilibrate(matrices: Tensor) -> Tensor:
    """(N, rows, cols) with all rows scaled to the same norm; the norm of each matrix and rows of zeros stay."""
    rows = matrices.norm(dim=-1, keepdim=True)
    mean = rows.square().mean(dim=-2, keepdim=True).sqrt()
    result: Tensor = matrices * (mean / rows.clamp(min=1e-12))
    return result


def normalize_variance(update: Tensor, variance: Tensor, beta2: float) -> Tensor:
    """`update` divided by the root of the running mean square of its rows (columns, if it is wide), keeping its norm.

    Args:
        update: (N, rows, cols).
        variance: (N, rows, 1), or (N, 1, cols) for wide matrices; updated in place.
        beta2: decay of the running mean.
    """
    mean_square = update.square().mean(dim=-1 if variance.size(-1) == 1 else -2, keepdim=True)
    variance.lerp_(mean_square, 1.0 - beta2)
    scale = variance.clamp(min=1e-10).rsqrt()
    # Both norms follow from the mean squares, without another pass over the matrices.
    before = mean_square.sum(dim=(-2, -1), keepdim=True)
    after = (mean_square * scale.square()).sum(dim=(-2, -1), keepdim=True).clamp(min=1e-20)
    return update * (scale * (before / after).sqrt())


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` under torch.compile, the same for the optimizers of all clients."""
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False)
    return compiled


class Muon(Grouped):
    """Nesterov momentum with an orthogonalised direction; the step is scaled by √max(1, rows / cols).

    Parameters of the same shape are stacked, so that a step takes a few batched products whatever the number of layers.
    Their state is stacked as well and kept with the first of them. Under torch.autocast the products of the
    orthogonalisation run in its precision; the state and the update stay float32.

    Args:
        params: matrices; either all matrices of a group have gradients or none.
        lr: learning rate.
        momentum: decay of the momentum.
        weight_decay: decoupled weight decay.
        steps: iterations of the orthogonalisation.
        polar: orthogonalise by the Polar Express instead of Newton-Schulz.
        equilibrated: scale rows to equal norms beforehand.
        beta2: decay of NorMuon's variance; 0 turns it off.
        cautious: decay only entries that the step moves towards zero as well, in proportion to the scaled step.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
        polar: bool = False,
        equilibrated: bool = False,
        beta2: float = 0.0,
        cautious: bool = False,
    ) -> None:
        self._orthogonalize: Callable[..., Tensor] = polar_express if polar else orthogonalize
        self._equilibrate: Callable[..., Tensor] = equilibrate
        self._normalize_variance: Callable[..., Tensor] = normalize_variance
        self._equilibrated, self._cautious = equilibrated, cautious
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps, "beta2": beta2}
        super().__init__([{"params": params}], settings)

    def compile(self) -> None:
        """Run the arithmetic on stacks under torch.compile from now on; each shape is compiled once."""
        self._orthogonalize = _compiled(self._orthogonalize)
        self._equilibrate = _compiled(self._equilibrate)
        self._normalize_variance = _compiled(self._normalize_variance)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._step_stack(group, parameters)

    def _step_stack(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        rows, cols = parameters[0].shape
        update = self._orthogonalize(self._direction(group, parameters), group["steps"])
        if group["beta2"]:
            state = self.state[parameters[0]]
            if "variance" not in state:
                state["variance"] = torch.zeros_like(update[..., :1] if rows >= cols else update[..., :1, :])
            update = self._normalize_variance(update, state["variance"], group["beta2"])
        rate = group["lr"] * max(1.0, rows / cols) ** 0.5
        decay = group["weight_decay"]
        if self._cautious and decay:
            for parameter, direction in zip(parameters, update, strict=True):
                direction.add_(parameter * (direction * parameter >= 0), alpha=decay)
        elif decay:
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * decay)
        torch._foreach_add_(parameters, list(update.unbind()), alpha=-rate)

    def _direction(self, group: dict[str, Any], parameters: list[Tensor]) -> Tensor:
        """Nesterov's look-ahead direction, (N, rows, cols); updates the momentum."""
        momentum = group["momentum"]
        gradients = torch.stack([parameter.grad for parameter in parameters if parameter.grad is not None])
        state = self.state[parameters[0]]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradients)
        buffer: Tensor = state["momentum"]
        buffer.lerp_(gradients, 1.0 - momentum)
        direction = gradients.lerp_(buffer, momentum)
        return self._equilibrate(direction) if self._equilibrated else direction
