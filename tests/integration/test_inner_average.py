"""Averaging of inner optimizer states that travel with the updates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.runs import StopsAfter, assert_same

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.core.event_log import read_log
from fednano.core.events import UpdateFolded, WorkDispatched
from fednano.core.tensors import State, digest
from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import blank_state, is_count
from fednano.report.audit import audit
from fednano.strategy.mean import WeightedMean

Run = Callable[..., dict[str, Any]]


def test_states_average_by_hand() -> None:
    """Weights 3 and 1: (3·4 + 8) / 4 = 5; a number of steps takes the maximum."""
    like = {"1.0.exp_avg": torch.zeros(2), "1.0.step": torch.zeros(())}
    mean = WeightedMean(like, is_count)
    mean.add({"1.0.exp_avg": torch.tensor([4.0, 0.0]), "1.0.step": torch.tensor(7.0)}, 3.0)
    mean.add({"1.0.exp_avg": torch.tensor([8.0, 2.0]), "1.0.step": torch.tensor(9.0)}, 1.0)
    result = mean.result()
    assert result["1.0.exp_avg"].tolist() == [5.0, 0.5]
    assert result["1.0.step"].item() == 9.0
    with pytest.raises(ValueError, match="must be those of the global model"):
        WeightedMean(like, is_count).add({"1.0.exp_avg": torch.zeros(2)}, 1.0)


@pytest.mark.parametrize("optim", ["adamw", "muon_adamw", "nanochat"])
def test_a_blank_state_is_that_of_a_first_step(optim: str) -> None:
    settings = build_groups(compose_config([f"optim={optim}"]), ["optim"])["optim"]

    def train(load: State | None, then: int = 0) -> tuple[str, State]:
        """Digest of the weights after two steps, and the state after them; `then` more steps through a copy of it."""
        model = GPT(GPTConfig.derive(Depth(2, sequence_len=8), NANOCHAT, 300))
        model.init_weights(torch.Generator().manual_seed(0))
        optimizer = settings.build(model)
        if load is not None:
            optimizer.load(load)
        tokens = torch.arange(16).view(2, 8)
        for step in range(2 + then):
            if step == 2:
                optimizer.load(optimizer.state())
            model(tokens, tokens + 1).backward()
            optimizer.step(1.0)
        return digest(model.state_dict()), optimizer.state()

    blank = blank_state(settings.build(GPT(GPTConfig.derive(Depth(2, sequence_len=8), NANOCHAT, 300))))
    fresh, state = train(None)
    assert train(blank)[0] == fresh
    assert train(blank, then=2)[0] == train(None, then=2)[0] != fresh
    assert {name: value.shape for name, value in state.items()} == {name: v.shape for name, v in blank.items()}
    assert not any(value.any() for value in blank.values())


def test_the_mean_of_one_client_is_what_it_keeps(run: Run) -> None:
    one = ("clients=1", "volatility.mean_up_s=1e9")  # 128 tokens a round: dividing by their number is exact
    kept, averaged, reset = (run(*one, f"optim.state={s}", folder=s) for s in ("keep", "average", "reset"))
    assert averaged["weights_sha256"] == kept["weights_sha256"] != reset["weights_sha256"]


def test_states_travel_and_count(run: Run) -> None:
    options = ("volatility.crash_share=0.5", "rounds=4", "clients=3")
    kept, averaged = (run(*options, f"optim.state={state}", folder=state) for state in ("keep", "average"))
    assert averaged["weights_sha256"] != kept["weights_sha256"]
    assert averaged["val_bpb"] < averaged["val_bpb_initial"]
    for summary in (kept, averaged):
        events = list(read_log(summary["folder"] / "events.jsonl"))
        assert audit(events).violations == []
        sizes = {e.bytes for e in events if isinstance(e, WorkDispatched | UpdateFolded)}
        assert len(sizes) == 1, "states travel both ways, from the first round on"
        summary["message"] = sizes.pop()
    assert kept["message"] == 4 * kept["parameters"]
    # Muon's matrices have a momentum, everything else two moments.
    assert 2 * kept["message"] < averaged["message"] < 3.01 * kept["message"]
    central = run(*options, "optim.state=average", "runtime=centralized", folder="central")
    assert central["tokens"] >= averaged["tokens"]


def test_averaged_states_are_resumed(run: Run) -> None:
    options = ("optim.state=average", "rounds=4", "clients=3", "eval_tokens=64", "checkpoint_every=1")
    whole = run(*options)
    assert run(*options, store=StopsAfter(20), folder="stopped")["status"] == "interrupted"
    assert_same(run(*options, folder="stopped", resume=True), whole)
