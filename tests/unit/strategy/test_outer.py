"""Outer optimizers against hand-worked steps, the methods they reduce to, and torch's own optimizers."""

import math
from itertools import pairwise

import pytest
import torch

from fednano.core.tensors import BLOCK, State, clone, digest
from fednano.strategy.base import ServerState
from fednano.strategy.merging.mean import Mean
from fednano.strategy.outer.adam import Adam
from fednano.strategy.outer.base import Outer
from fednano.strategy.outer.delayed_nesterov import DelayedNesterov
from fednano.strategy.outer.momentum import Momentum
from fednano.strategy.outer.nesterov import Nesterov
from fednano.strategy.outer.schedule import Constant, Cosine, OuterSchedule, Warmup
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.outer.yogi import Yogi
from fednano.strategy.synchronous import Synchronous

OUTERS = [
    SGD(0.5),
    Momentum(0.5, 0.9),
    Nesterov(0.7, 0.9),
    Adam(0.1),
    Yogi(0.1),
    DelayedNesterov(momentum=0.5, every=2),
]
DELTAS = ((0.5, 0.1), (-0.2, 0.3), (0.05, -0.7), (0.0, 0.0))


def one(*values: float) -> State:
    return {"w": torch.tensor(values)}


def walk(outer: Outer, deltas: tuple[tuple[float, ...], ...] = DELTAS) -> list[torch.Tensor]:
    """The weights after each step, from 1 and −2."""
    weights, state, seen = one(1.0, -2.0), {}, []
    for delta in deltas:
        weights, state = outer.step(weights, state, one(*delta))
        seen.append(weights["w"])
    return seen


def large(seed: int) -> State:
    """Tensors of more than a block, of one entry, and none."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(3, BLOCK // 2 + 1, generator=draw),
        "b": torch.randn(1, generator=draw),
        "c": torch.zeros(0),
    }


@pytest.mark.parametrize(("nesterov", "outer"), [(True, Nesterov(0.7, 0.9)), (False, Momentum(0.7, 0.9))])
def test_momentum_equals_torch(nesterov: bool, outer: Outer) -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    reference = torch.optim.SGD([weights], lr=0.7, momentum=0.9, nesterov=nesterov)
    for stepped, delta in zip(walk(outer), DELTAS, strict=True):
        weights.grad = torch.tensor(delta)
        reference.step()
        torch.testing.assert_close(stepped, weights.detach())


def test_delayed_nesterov_of_one_is_nesterov_bit_for_bit() -> None:
    delayed, plain = DelayedNesterov(lr=0.7, momentum=0.9), Nesterov(0.7, 0.9)
    assert all(map(torch.equal, walk(delayed), walk(plain)))
    weights, states = (large(0), large(0)), ({}, {})
    for seed in range(3):
        stepped = [o.step(w, s, large(seed)) for o, w, s in zip((delayed, plain), weights, states, strict=True)]
        weights, states = zip(*stepped, strict=True)
    assert digest(weights[0]) == digest(weights[1])


def test_delayed_nesterov_by_hand() -> None:
    """N = 2, η = 0.5, β = 0.5, Δ = 4, 8, 2, 2: θ = −1; B = 12, m = 6, θ = −1 − 2 − 1.5; then −0.5; m = 3 + 2, …."""
    outer = DelayedNesterov(lr=0.5, momentum=0.5, every=2)
    weights, state, seen = one(0.0), {}, []
    for delta in (4.0, 8.0, 2.0, 2.0):
        weights, state = outer.step(weights, state, one(delta))
        seen.append(weights["w"].item())
    assert seen == [-1.0, -4.5, -5.0, -6.75]
    assert (state["m.w"].item(), state["b.w"].item(), int(state["count"])) == (5.0, 0.0, 0)


def test_momentum_by_hand() -> None:
    first, second = walk(Momentum(0.5, 0.5), ((1.0, 0.0), (2.0, 4.0)))
    assert first.tolist() == [0.5, -2.0]  # m = (1, 0)
    assert second.tolist() == [-0.75, -4.0]  # m = (2.5, 4)


@pytest.mark.parametrize("outer", [Momentum(0.5, 0.0), Nesterov(0.5, 0.0)])
def test_without_momentum_it_is_sgd(outer: Outer) -> None:
    assert [step.tolist() for step in walk(outer)] == [step.tolist() for step in walk(SGD(0.5))]


def test_adam_by_hand() -> None:
    """m = 0.1 · 2 = 0.2, v = 0.01 · 4 = 0.04; then m = 0.18 + 0.1 · 1 = 0.28, v = 0.0396 + 0.01 · 1 = 0.0496."""
    outer = Adam(lr=0.5, beta1=0.9, beta2=0.99, tau=0.1)
    first, second = walk(outer, ((2.0, 0.0), (1.0, 0.0)))
    at = 1.0 - 0.5 * 0.2 / (0.2 + 0.1)
    assert first.tolist() == pytest.approx([at, -2.0])
    assert second.tolist() == pytest.approx([at - 0.5 * 0.28 / (math.sqrt(0.0496) + 0.1), -2.0])


def test_yogi_by_hand() -> None:
    """v rises by 0.01 · 4 from 0 to 0.04, where Δ² = 4 is above it, then falls by 0.01 · 0.01, where it is below."""
    outer = Yogi(lr=0.5, beta1=0.0, beta2=0.99, tau=0.1)
    weights, state = outer.step(one(1.0), {}, one(2.0))
    assert state["v.w"].item() == pytest.approx(0.04)
    weights, state = outer.step(weights, state, one(0.1))
    assert state["v.w"].item() == pytest.approx(0.04 - 0.01 * 0.01)


@pytest.mark.parametrize("kind", [Adam, Yogi])
def test_without_memory_adam_and_yogi_scale_each_entry_alone(kind: type[Adam]) -> None:
    """With β₁ = β₂ = 0, a first step is −ηΔ / (|Δ| + τ); Adam's later ones are, too."""
    outer = kind(lr=0.3, beta1=0.0, beta2=0.0, tau=0.01)
    steps = [torch.tensor([1.0, -2.0]), *walk(outer)]
    for (before, after), delta in list(zip(pairwise(steps), DELTAS, strict=True))[: None if kind is Adam else 1]:
        change = torch.tensor(delta)
        torch.testing.assert_close(after, before - 0.3 * change / (change.abs() + 0.01))


def test_adam_and_yogi_agree_while_squares_grow() -> None:
    """Yogi's v rises as fast as Adam's from 0, and then falls more slowly."""
    (_, adam), (_, yogi) = (kind(beta2=0.9).step(one(1.0), {}, one(2.0)) for kind in (Adam, Yogi))
    assert adam["v.w"].item() == yogi["v.w"].item()
    (_, adam), (_, yogi) = (
        kind(beta2=0.9).step(one(1.0), state, one(0.0)) for kind, state in ((Adam, adam), (Yogi, yogi))
    )
    assert adam["v.w"].item() < yogi["v.w"].item()


@pytest.mark.parametrize("outer", OUTERS, ids=lambda outer: type(outer).__name__)
def test_outer_steps_leave_their_arguments_alone_and_do_not_depend_on_blocks(outer: Outer) -> None:
    weights, delta = large(1), large(2)
    _, state = outer.step(weights, {}, large(3))
    before = [clone(each) for each in (weights, state, delta)]
    stepped, moved = outer.step(weights, state, delta)
    for each, copy in zip((weights, state, delta), before, strict=True):
        assert digest(each) == digest(copy)
    assert list(stepped) == list(weights)
    assert all(stepped[name].shape == weights[name].shape for name in weights)
    row = slice(BLOCK // 2, BLOCK // 2 + 1)  # of "a"; entries do not depend on each other

    def part(tree: State) -> State:
        return {
            name: each[row] if each.ndim else each for name, each in tree.items() if name.endswith("a") or not each.ndim
        }

    alone, moved_alone = outer.step(part(weights), part(state), part(delta))
    assert torch.equal(alone["a"], stepped["a"][row])
    assert all(torch.equal(moved_alone[name], each) for name, each in part(moved).items())


def test_sgd_and_nesterov_keep_their_bits() -> None:
    """Whole-tensor arithmetic, as it was before steps went block by block."""
    weights, delta, momenta = large(1), large(2), large(3)
    stepped, _ = SGD(0.3).step(weights, {}, delta)
    assert digest(stepped) == digest({name: w - 0.3 * delta[name] for name, w in weights.items()})
    stepped, moved = Nesterov(0.7, 0.9).step(weights, momenta, delta)
    m = {name: 0.9 * momenta[name] + d for name, d in delta.items()}
    assert digest(moved) == digest(m)
    assert digest(stepped) == digest({n: w - 0.7 * (0.9 * m[n] + delta[n]) for n, w in weights.items()})


@pytest.mark.parametrize("outer", OUTERS, ids=lambda outer: type(outer).__name__)
def test_a_scale_is_a_factor_on_the_learning_rate(outer: Outer) -> None:
    weights, delta = large(1), large(2)
    _, state = outer.step(weights, {}, large(3))
    halved, moved = outer.step(weights, state, delta, 0.5)
    slower = type(outer)(**{**vars(outer), "lr": 0.5 * outer.lr})  # type: ignore[attr-defined]
    again, kept = slower.step(weights, state, delta)
    assert (digest(halved), digest(moved)) == (digest(again), digest(kept))


def test_states_have_the_names_of_the_weights() -> None:
    weights = large(1)
    for outer, names in ((SGD(), ""), (Momentum(), "_"), (Nesterov(), "_"), (Adam(), "mv"), (Yogi(), "mv")):
        _, state = outer.step(weights, {}, large(2))
        assert set(state) == {name if kind == "_" else f"{kind}.{name}" for kind in names for name in weights}


def test_one_client_and_one_step_is_the_outer_optimizer_on_the_local_step() -> None:
    """A client that takes one plain gradient step of rate 1 submits its gradient, and the server steps with it."""
    target = torch.tensor([0.3, 0.7])
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    reference = torch.optim.SGD([weights], lr=0.4, momentum=0.8, nesterov=True)
    strategy = Synchronous(name="x", outer=Nesterov(0.4, 0.8), merging=Mean(), local_steps=1)
    state = ServerState(weights=one(1.0, -2.0))
    for _ in range(4):
        base = state.weights["w"]
        local = base - (base - target)  # a step of rate 1 on ½‖w − target‖²
        accumulator = strategy.accumulator(state)
        accumulator.add({"w": base - local}, 7.0, None)  # type: ignore[arg-type]
        state = strategy.merge(state, accumulator.result())
        weights.grad = weights.detach() - target
        reference.step()
        torch.testing.assert_close(state.weights["w"], weights.detach())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Adam(lr=0.0), r"strategy\.outer\.lr must be > 0, got 0"),
        (lambda: Adam(beta1=1.0), r"strategy\.outer\.beta1 must be >= 0 and < 1, got 1"),
        (lambda: Yogi(beta2=-0.1), r"strategy\.outer\.beta2 must be .*, got -0\.1"),
        (lambda: Yogi(tau=0.0), r"strategy\.outer\.tau must be > 0, got 0"),
        (lambda: Momentum(momentum=1.0), r"strategy\.outer\.momentum must be .*, got 1"),
        (lambda: Warmup(warmup=1.1), r"strategy\.schedule\.warmup must be from 0 to 1, got 1\.1"),
        (lambda: Warmup(start=0.0), r"strategy\.schedule\.start must be > 0, got 0"),
        (lambda: Cosine(floor=-1.0), r"strategy\.schedule\.floor must be from 0 to 1, got -1"),
        (lambda: Cosine(warmup=1.0), r"strategy\.schedule\.warmup must be < 1, got 1"),
        (lambda: Cosine().scale(0, 0), "needs the number of tokens at which it ends, got 0; use strategy/schedule"),
        (lambda: Warmup().scale(0, 0), "needs the number of tokens at which it ends, got 0; use strategy/schedule"),
    ],
)
def test_bad_settings_name_key_and_value(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        (Constant(), {0: 1.0, 50: 1.0, 200: 1.0}),
        (Warmup(warmup=0.2, start=0.1), {0: 0.1, 10: 0.55, 20: 1.0, 100: 1.0, 200: 1.0}),
        (Warmup(warmup=0.0), {0: 1.0, 100: 1.0}),
        (Cosine(floor=0.2), {0: 1.0, 50: 0.6, 100: 0.2, 200: 0.2}),
        (Cosine(warmup=0.5, start=0.5, floor=0.0), {0: 0.5, 25: 0.75, 50: 1.0, 75: 0.5, 100: 0.0}),
    ],
    ids=str,
)
def test_schedules_by_hand(schedule: OuterSchedule, at: dict[int, float]) -> None:
    assert {tokens: pytest.approx(schedule.scale(tokens, 100)) for tokens in at} == at


def test_the_schedule_scales_the_outer_step() -> None:
    def after(tokens: int, horizon: int, schedule: OuterSchedule) -> float:
        strategy = Synchronous(name="x", outer=SGD(1.0), schedule=schedule)
        state = ServerState(weights=one(1.0), tokens=tokens, horizon=horizon)
        return strategy.merge(state, one(1.0)).weights["w"].item()

    assert after(50, 100, Cosine(floor=0.0)) == pytest.approx(0.5)
    assert after(0, 0, Constant()) == 0.0


@pytest.mark.parametrize(
    ("returned", "kinds"),
    [
        (None, "NoneType"),
        (one(1.0), "a dict of Tensor"),
        ((one(1.0), None), "a tuple of a dict of Tensor, NoneType"),
        ((one(1.0), {"steps": 3}), "a tuple of a dict of Tensor, a dict of int"),
        ((one(1.0), {}, {}), "a tuple of a dict of Tensor, a dict of nothing"),
    ],
)
def test_what_a_step_returns_is_checked(returned: object, kinds: str) -> None:
    class Own:
        def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
            return returned  # type: ignore[return-value]

    strategy = Synchronous(name="own", outer=Own())
    says = rf"Own\.step must return \(weights, state\), two dictionaries of tensors, got {kinds}; correct it"
    with pytest.raises(ValueError, match=says):
        strategy.merge(ServerState(weights=one(1.0)), one(0.5))
