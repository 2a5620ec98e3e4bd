"""Availability, profiles, presence and links."""

import itertools
import math

import pytest

from fednano.clock import VirtualClock
from fednano.randomness import generator, named_seed
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.presence import ClientCrashedError, Presence
from fednano.volatility.profiles import AlwaysOn, Markov


def windows() -> Availability:
    return Availability(iter([Window(2, 5, "drain"), Window(5, 6, "crash"), Window(10, 12, "drain")]))


def test_window_and_next_change() -> None:
    a = windows()
    assert [a.window(t) is not None for t in (0, 2, 4.9, 5, 6, 9, 10, 12, 99)] == [
        False, True, True, True, False, False, True, False, False,
    ]  # fmt: skip
    assert [a.next_change(t) for t in (0, 2, 5, 6, 10, 12)] == [2, 5, 6, 10, 12, math.inf]
    assert [windows().up_seconds(t) for t in (0, 2, 3, 8, 11, 99)] == [0, 0, 1, 4, 5, 6]


def test_bad_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="begins before"):
        Availability(iter([Window(0, 5, "drain"), Window(4, 6, "drain")])).window(5.5)
    with pytest.raises(ValueError, match="empty"):
        Availability(iter([Window(3, 3, "drain")])).window(0)


def test_markov_is_a_pure_function_of_client_and_seed() -> None:
    profile = Markov()
    take = lambda client, seed: list(itertools.islice(profile._windows(client, seed), 20))  # noqa: E731
    assert take("a", 1) == take("a", 1)
    assert take("a", 1) != take("b", 1)
    assert take("a", 1) != take("a", 2)


def test_markov_means() -> None:
    profile = Markov(mean_up_s=30, mean_down_s=10, crash_share=0.25)
    many = list(itertools.islice(profile._windows("client", 3), 20_000))
    up = sum(w.stop - w.start for w in many) / len(many)
    down = sum(b.start - a.stop for a, b in itertools.pairwise(many)) / (len(many) - 1)
    assert up == pytest.approx(30, rel=0.03)
    assert down == pytest.approx(10, rel=0.03)
    assert sum(w.exit == "crash" for w in many) / len(many) == pytest.approx(0.25, abs=0.01)
    started_up = sum(next(profile._windows(f"c{i}", 0)).start == 0 for i in range(2000)) / 2000
    assert started_up == pytest.approx(0.75, abs=0.03)


def test_always_on_never_changes() -> None:
    membership = Membership.draw(AlwaysOn(), ["a", "b"], 0)
    assert membership.up(1e9) == ("a", "b")
    assert membership.next_change(0) == math.inf


def test_membership_looks_at_all_clients() -> None:
    membership = Membership(
        {"a": windows(), "b": Availability(iter([Window(0, 3, "drain")]))},
    )
    assert [membership.up(t) for t in (0, 2, 3, 7)] == [("b",), ("a", "b"), ("a",), ()]
    assert membership.next_change(2) == 3


def presence(window: Window, now: float) -> tuple[Presence, VirtualClock]:
    clock = VirtualClock(now)
    return Presence(Membership({"a": Availability(iter([window]))}), "a", clock, hand_in_s=2.0), clock


def test_a_drain_keeps_time_for_handing_in() -> None:
    client, clock = presence(Window(0, 10, "drain"), 1)
    client.arrive()
    assert client.may_step(7.0)
    assert not client.may_step(7.1)
    clock.charge(7)
    assert client.survives(10)
    assert not client.survives(10.1)


def test_a_crash_comes_in_the_middle_of_a_step() -> None:
    client, clock = presence(Window(0, 10, "crash"), 1)
    client.arrive()
    assert client.may_step(9.0)
    clock.charge(8)
    with pytest.raises(ClientCrashedError):
        client.may_step(1.5)


def test_work_cannot_begin_while_down() -> None:
    client, _ = presence(Window(5, 10, "drain"), 1)
    with pytest.raises(ClientCrashedError):
        client.arrive()


def test_network_times() -> None:
    network = Network("x", up_mbit_s=8, down_mbit_s=80, latency_s=0.5)
    assert network.up_s(1_000_000) == pytest.approx(1.5)
    assert network.down_s(1_000_000) == pytest.approx(0.6)


def test_generators_are_named() -> None:
    assert named_seed(1, "a", 2) == named_seed(1, "a", 2)
    assert len({named_seed(s, *n) for s, n in ((1, ("a", 2)), (2, ("a", 2)), (1, ("a", 3)), (1, ("a2",)))}) == 4
    assert generator(1, "x").random() == generator(1, "x").random()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Markov(mean_up_s=0), "volatility.mean_up_s=0"),
        (lambda: Markov(mean_down_s=math.inf), "volatility.mean_down_s=inf"),
        (lambda: Markov(crash_share=1.5), "volatility.crash_share=1.5"),
        (lambda: Network("x", 0, 1, 0), "network.up_mbit_s=0"),
        (lambda: Network("x", 1, 1, -1), "network.latency_s=-1"),
    ],
)
def test_bad_settings_name_key_and_value(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
