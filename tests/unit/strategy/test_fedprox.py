"""FedProx: the proximal term's gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import AdamW
from fednano.strategy.fedprox import Proximal

Run = Callable[..., dict[str, Any]]


def test_a_step_by_hand() -> None:
    """θ_global = (1, 2), θ = (1.5, 1), gradient (0.1, 0.2), μ = 0.4: (0.1 + 0.4 · 0.5, 0.2 − 0.4 · 1)."""
    theta, still = torch.nn.Parameter(torch.tensor([1.5, 1.0])), torch.nn.Parameter(torch.ones(1))
    theta.grad = torch.tensor([0.1, 0.2])
    base = {"w": torch.tensor([1.0, 2.0]), "still": torch.zeros(1)}
    Proximal(mu=0.4).begin(base, {}, "a", 1).gradients({"w": theta, "still": still})
    assert theta.grad.tolist() == pytest.approx([0.3, -0.2])
    assert still.grad is None
    assert theta.tolist() == [1.5, 1.0] and base["w"].tolist() == [1.0, 2.0]


def test_steps_are_those_of_the_explicit_loss() -> None:
    mu, tokens = 0.3, torch.arange(16).view(2, 8) % 7

    def trained(explicit: bool) -> dict[str, torch.Tensor]:
        model = GPT(GPTConfig.derive(Depth(2, sequence_len=8), SEED, 300))
        model.init_weights(torch.Generator().manual_seed(0))
        base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        rule, optimizer = Proximal(mu=mu).begin(base, {}, "a", 1), AdamW(lr=1e-2).build(model)
        for step in range(5):
            loss = model(tokens, (tokens + step) % 7)
            named = dict(model.named_parameters())
            if explicit:
                loss = loss + mu / 2 * sum((p - base[name]).square().sum() for name, p in named.items())
            loss.backward()
            if not explicit:
                rule.gradients(named)
            optimizer.step(1.0)
        return model.state_dict()

    ours, theirs = trained(explicit=False), trained(explicit=True)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_a_bad_mu_is_named(mu: float) -> None:
    with pytest.raises(ValueError, match=r"strategy\.client\.mu must be >= 0 and finite, got .*; about 0\.01 is usual"):
        Proximal(mu=mu)
