"""Availability, profiles, presence and links."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.core.clock import VirtualClock
from fednano.core.randomness import generator, named_seed
from fednano.volatility.availability import Availability, Window
from fednano.volatility.compose import Compose
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.periodic import DAY_S, Diurnal, Straggler
from fednano.volatility.presence import ClientCrashedError, Presence
from fednano.volatility.profiles import AlwaysOn, Bernoulli, Markov, Profile, Spot
from fednano.volatility.recorded import Intervals
from fednano.volatility.speed import Speed, product
from fednano.volatility.traced import Traced


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
    with pytest.raises(ValueError, match=r"order of time.* got 4 to 6 s after one that ends at 5 s for a client; "):
        Availability(iter([Window(0, 5, "drain"), Window(4, 6, "drain")])).window(5.5)
    with pytest.raises(ValueError, match=r"none of them empty.* got 3 to 3 s for a client; "):
        Availability(iter([Window(3, 3, "drain")])).window(0)
    with pytest.raises(ValueError, match="got nan to 3 s"):
        Availability(iter([Window(math.nan, 3, "drain")])).window(0)
    with pytest.raises(ValueError, match=r"from 0 s on .* by drain or crash, got -1 to 3 s, drain, for a client; "):
        Availability(iter([Window(-1, 3, "drain")])).window(0)
    with pytest.raises(ValueError, match=r"by drain or crash, got 1 to 3 s, leave, for a client; "):
        Availability(iter([Window(1, 3, "leave")])).window(0)  # type: ignore[arg-type]


def test_windows_that_are_no_availability_are_refused() -> None:
    class Listing(AlwaysOn):
        def availability(self, client: str, index: int, seed: int) -> Availability:
            return [Window(0, 5, "drain")]  # type: ignore[return-value]

    with pytest.raises(ValueError, match="must return an Availability, got list for b of Listing; return"):
        Listing().drawn("b", 1, 0)


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


def all_profiles(exit: str) -> list[Profile]:
    solar = Traced(file="package:synthetic_solar.csv", open_when="above", on_end="repeat", exit=exit, threshold="p65")
    return [
        Markov(exit=exit),
        Bernoulli(exit=exit),
        Spot(exit=exit),
        Diurnal(exit=exit),
        solar,
        Intervals(file="package:example_intervals.csv", exit=exit, on_end="repeat", period_s=310),
        Compose("both", "all", {"a": Markov(exit=exit, mean_up_s=4000), "b": solar}),
        Compose("either", "turn", {"a": Markov(exit=exit), "b": solar}),
    ]


def until(profile: Profile, client: str, index: int, seed: int, horizon: float) -> list[Window]:
    return list(profile.availability(client, index, seed).until(horizon))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 7), st.sampled_from(["drain", "crash", "mixed"]), st.integers(0, 2**32), st.integers(0, 9))
def test_windows_are_ordered_apart_and_seeded(kind: int, exit: str, seed: int, index: int) -> None:
    profile, horizon = all_profiles(exit)[kind], 3 * DAY_S
    windows = until(profile, "a", index, seed, horizon)
    assert windows
    assert all(w.start < w.stop for w in windows)
    assert all(a.stop < b.start for a, b in itertools.pairwise(windows))
    assert windows[0].start >= 0
    assert windows == until(profile, "a", index, seed, horizon)
    if exit != "mixed" and not isinstance(profile, Intervals):
        assert {w.exit for w in windows} == {exit}


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 6])
def test_clients_and_seeds_differ(kind: int) -> None:
    profile = all_profiles("mixed")[kind]
    drawn = [until(profile, client, 0, seed, 3 * DAY_S) for client, seed in (("a", 0), ("b", 0), ("a", 1))]
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize(
    ("profile", "share", "crashes"),
    [
        (Markov(mean_up_s=30, mean_down_s=10), 0.75, 0.4),
        (Bernoulli(up_probability=0.3, slot_s=7, crash_share=0.1), 0.3, 0.1),
        (Spot(mean_up_s=300, mean_down_s=100, shape=0.7, exit="mixed"), 0.75, 0.4),
        (Spot(mean_up_s=300, mean_down_s=100, shape=2.0, notice_s=0), 0.75, 1.0),
        (Diurnal(duty=0.4, speedup=600), 0.4, 0.4),
        (Compose("x", "all", {"a": Bernoulli(exit="crash"), "b": Bernoulli(exit="crash")}), 0.49, 1.0),
    ],
)
def test_shares_of_long_runs_are_those_of_theory(profile: Profile, share: float, crashes: float) -> None:
    horizon = 500_000.0
    windows = until(profile, "client", 0, 5, horizon)
    assert sum(w.stop - w.start for w in windows) / horizon == pytest.approx(share, rel=0.05)
    assert sum(w.exit == "crash" for w in windows) / len(windows) == pytest.approx(crashes, abs=0.03)


def test_a_bernoulli_client_is_up_in_whole_slots() -> None:
    windows = until(Bernoulli(slot_s=7), "client", 0, 0, 7 * 5000)
    slots = [round(w.start / 7) for w in windows], [round(w.stop / 7) for w in windows]
    assert [w.start / 7 for w in windows] == slots[0]
    assert [w.stop / 7 for w in windows] == slots[1]
    up = [any(a <= k < b for a, b in zip(*slots, strict=True)) for k in range(2000)]
    # Independent: a slot after one that was up is as likely up as any.
    after = [b for a, b in itertools.pairwise(up) if a]
    assert sum(after) / len(after) == pytest.approx(0.7, abs=0.04)


def test_young_spot_instances_go_first() -> None:
    lives = [w.stop - w.start for w in until(Spot(shape=0.5, mean_up_s=100), "a", 0, 0, 1e6)[1:-1]]
    assert sum(life < 10 for life in lives) / len(lives) == pytest.approx(1 - math.exp(-((10 / 50) ** 0.5)), abs=0.03)


def test_spot_instances_are_given_notice() -> None:
    assert {w.notice_s for w in until(Spot(notice_s=120), "a", 0, 0, 1e5)} == {120}
    assert {w.exit for w in until(Spot(notice_s=0), "a", 0, 0, 1e5)} == {"crash"}
    common = Compose("x", "all", {"spot": Spot(notice_s=30), "on": AlwaysOn()})
    assert {w.notice_s for w in until(common, "a", 0, 0, 1e5)} == {30}


def test_diurnal_windows_are_around_local_noon() -> None:
    profile = Diurnal(zones_h=[1, -5], duty=0.25, jitter_s=0)
    hours = lambda index: [(w.start / 3600, w.stop / 3600) for w in until(profile, "a", index, 0, 2 * DAY_S)]  # noqa: E731
    assert hours(0) == [(8, 14), (32, 38)]
    assert hours(1) == [(14, 20), (38, 44)]
    assert hours(2) == hours(0)
    late = Diurnal(zones_h=[10], middle_h=12, duty=0.5, jitter_s=0)
    assert [(w.start / 3600, w.stop / 3600) for w in until(late, "a", 0, 0, DAY_S)] == [(0, 8), (20, 24)]


def test_a_client_of_several_profiles_is_up_with_all_of_them() -> None:
    first, second = Bernoulli(), Markov()
    both = Compose("x", "all", {"first": first, "second": second})
    common = both.availability("a", 0, 0)
    parts = [
        part.availability("a", 0, named_seed(0, "part", name)) for name, part in (("first", first), ("second", second))
    ]
    for t in range(3000):
        assert (common.window(t) is not None) == all(part.window(t) is not None for part in parts)
    # How it leaves is decided by the part that closes.
    for window in common.until(3000):
        if window.stop < 3000:
            assert window.exit in [w.exit for part in parts for w in part.until(1e4) if w.stop == window.stop]


def test_each_client_in_turn_has_a_profile_of_its_own() -> None:
    profile = Compose("x", "turn", {"first": AlwaysOn(), "second": Markov()})
    assert until(profile, "a", 2, 0, 1e6) == [Window(0, 1e6, "drain")]
    assert len(until(profile, "a", 3, 0, 1e6)) > 100


def test_profiles_that_are_never_up_together_are_refused() -> None:
    day, night = Diurnal(jitter_s=0, duty=0.4, zones_h=[0]), Diurnal(jitter_s=0, duty=0.4, zones_h=[12])
    with pytest.raises(ValueError, match="day, night are not up together for a year"):
        Compose("x", "all", {"day": day, "night": night}).availability("a", 0, 0).window(5)


def test_a_composition_ends_with_its_shortest_trace(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("t,a\n0,1\n10,1\n")
    profile = Compose("x", "all", {"a": AlwaysOn(), "b": Traced(file=str(tmp_path / "x.csv"), threshold=3)})
    availability = profile.availability("a", 0, 0)
    assert availability.next_change(5) == 20
    with pytest.raises(ValueError, match="ends 20 s after"):
        availability.window(20)


def test_speeds_by_hand() -> None:
    speed = Speed(iter([(10, 1.0), (20, 0.5), (math.inf, 2.0)]))
    assert [speed.at(t) for t in (0, 9.9, 10, 25)] == [1, 1, 0.5, 2]
    assert speed.full_seconds(5, 25) == 5 + 5 + 10
    assert speed.full_seconds(21, 23) == 4
    twice = product([Speed(iter([(10, 1.0), (20, 0.5), (math.inf, 2.0)])), Speed(iter([(15, 3.0), (math.inf, 1.0)]))])
    assert [twice.at(t) for t in (5, 12, 17, 30)] == [3, 1.5, 0.5, 2]
    with pytest.raises(ValueError, match="a speed must be > 0 until a time after"):
        Speed(iter([(5, 0.0)])).at(1)


def test_straggler_speeds_are_log_normal_around_one() -> None:
    profile = Straggler(sigma=0.5, client_sigma=0, mean_hold_s=10)
    speed = profile.speed("a", 0, 0)
    assert speed.full_seconds(0, 500_000) / 500_000 == pytest.approx(1, rel=0.02)
    logs = [math.log(speed.at(t)) for t in range(0, 500_000, 100)]
    mean = sum(logs) / len(logs)
    assert math.sqrt(sum((x - mean) ** 2 for x in logs) / len(logs)) == pytest.approx(0.5, rel=0.05)
    assert profile.speed("a", 0, 0).at(77) == speed.at(77) != profile.speed("b", 0, 0).at(77)
    clients = [Straggler(sigma=0, client_sigma=0.3).speed(f"c{i}", i, 0) for i in range(3000)]
    assert sum(c.at(0) for c in clients) / 3000 == pytest.approx(1, rel=0.03)
    assert all(c.at(0) == pytest.approx(c.at(1e4)) for c in clients[:5])


def test_time_up_is_worth_what_the_speed_makes_of_it() -> None:
    membership = Membership({"a": windows()}, {"a": Speed(iter([(4, 0.5), (math.inf, 2.0)]))})
    assert membership.speed("a", 3) == 0.5
    assert membership.full_seconds("a", 11) == 2 * 0.5 + 1 * 2 + 1 * 2 + 1 * 2
    assert Membership({"a": windows()}).full_seconds("a", 11) == 5


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
    assert not membership.never_up()
    assert Membership({"a": Availability(iter([]))}).never_up()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 400), min_size=1, max_size=30), st.integers(0, 99))
def test_membership_agrees_with_its_clients_at_any_time(times: list[float], seed: int) -> None:
    names = ["a", "b", "c", "d"]
    profile = Compose("x", "turn", {"m": Markov(), "b": Bernoulli(), "n": AlwaysOn()})
    membership = Membership.draw(profile, names, seed)
    alone = [profile.availability(name, i, seed) for i, name in enumerate(names)]
    for t in times:  # forwards and backwards
        assert membership.next_change(t) == min(a.next_change(t) for a in alone)
        assert membership.up(t) == tuple(name for name, a in zip(names, alone, strict=True) if a.window(t) is not None)


def presence(window: Window, now: float) -> tuple[Presence, VirtualClock]:
    clock = VirtualClock(now)
    return Presence(Membership({"a": Availability(iter([window]))}), "a", clock, submit_s=2.0), clock


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


def test_a_notice_tells_the_end_only_just_before_it() -> None:
    client, clock = presence(Window(0, 100, "drain", notice_s=30), 1)
    client.arrive()
    clock.wait(69)
    assert client.may_step(31)  # nobody knows yet that there would be no time to submit
    with pytest.raises(ClientCrashedError):
        client.may_step(31.5)
    clock.wait(70)
    assert client.may_step(28)
    assert not client.may_step(28.5)


def test_what_was_sent_before_the_client_came_is_lost() -> None:
    client, _ = presence(Window(5, 10, "drain"), 6)
    client.arrive(sent=5.5)
    with pytest.raises(ClientCrashedError):
        client.arrive(sent=4.5)


def test_work_cannot_begin_while_down() -> None:
    client, _ = presence(Window(5, 10, "drain"), 1)
    with pytest.raises(ClientCrashedError):
        client.arrive()


def test_network_times() -> None:
    network = Network(name="x", up_mbit_s=8, down_mbit_s=80, latency_s=0.5)
    assert network.up_s(1_000_000) == pytest.approx(1.5)
    assert network.down_s(1_000_000) == pytest.approx(0.6)


def test_links_are_dealt_to_the_clients_in_turn() -> None:
    network = Network(name="x", up_mbit_s=[8, 4], down_mbit_s=80, latency_s=[0.5, 0.1, 0.2])
    assert [network.up_s(1_000_000, i) for i in range(4)] == [1.5, 2.1, 1.2, 2.5]
    assert network.late_s(0, 0, 1, "up") == 0
    assert network.submit_s(1_000_000, 1) == network.up_s(1_000_000, 1)


def test_transfers_are_late_by_an_exponential_time() -> None:
    network = Network(name="x", up_mbit_s=8, down_mbit_s=8, latency_s=0, jitter_s=[0.5, 0.0])
    late = [network.late_s(0, 3, k, "up") for k in range(4000)]
    assert sum(late) / 4000 == pytest.approx(0.5, rel=0.06)
    assert sum(network.up_s(0) + x <= network.submit_s(0) for x in late) / 4000 == pytest.approx(0.95, abs=0.01)
    assert network.late_s(0, 3, 7, "up") == late[7] != network.late_s(0, 3, 7, "down")
    assert network.late_s(1, 3, 7, "up") == 0


def test_generators_are_named() -> None:
    assert named_seed(1, "a", 2) == named_seed(1, "a", 2)
    assert len({named_seed(s, *n) for s, n in ((1, ("a", 2)), (2, ("a", 2)), (1, ("a", 3)), (1, ("a2",)))}) == 4
    assert generator(1, "x").random() == generator(1, "x").random()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Markov(mean_up_s=0), "volatility.mean_up_s must be .*, got 0"),
        (lambda: Markov(mean_down_s=math.inf), "volatility.mean_down_s must be .*, got inf"),
        (lambda: Markov(crash_share=1.5), "volatility.crash_share must be .*, got 1.5"),
        (lambda: Markov(exit="leap"), "volatility.exit must be drain, crash or mixed, got leap; choose one of them"),
        (lambda: Bernoulli(up_probability=1.0), "volatility.up_probability must be > 0 and < 1, got 1.0"),
        (lambda: Bernoulli(slot_s=-1), "volatility.slot_s must be .*, got -1"),
        (lambda: Spot(shape=0), "volatility.shape must be .*, got 0"),
        (lambda: Spot(notice_s=-1), "volatility.notice_s must be .*, got -1"),
        (lambda: Diurnal(duty=1), "volatility.duty must be .*, got 1"),
        (lambda: Diurnal(zones_h=[]), r"volatility.zones_h must be hours .*, got \[\]"),
        (lambda: Diurnal(middle_h=25), "volatility.middle_h must be .*, got 25"),
        (lambda: Diurnal(jitter_s=math.nan), "volatility.jitter_s must be .*, got nan"),
        (lambda: Diurnal(speedup=0), "volatility.speedup must be .*, got 0"),
        (lambda: Straggler(sigma=-1), "volatility.sigma must be .*, got -1"),
        (lambda: Straggler(mean_hold_s=0), "volatility.mean_hold_s must be .*, got 0"),
        (
            lambda: Compose("x", "some", {"a": AlwaysOn()}),
            "volatility.how must be all or turn, got some; choose one of them",
        ),
        (
            lambda: Compose("x", "all", {}),
            r"volatility.parts must have at least one profile, got {}; add \+volatility@",
        ),
        (lambda: Network(name="x", up_mbit_s=[], down_mbit_s=1, latency_s=0), "up_mbit_s must have at least one value"),
        (
            lambda: Network(name="x", up_mbit_s=1, down_mbit_s=1, latency_s=0, jitter_s=math.inf),
            "network.jitter_s must be .*, got inf",
        ),
        (lambda: Network(name="x", up_mbit_s=0, down_mbit_s=1, latency_s=0), "network.up_mbit_s must be .*, got 0"),
        (lambda: Network(name="x", up_mbit_s=1, down_mbit_s=1, latency_s=-1), "network.latency_s must be .*, got -1"),
    ],
)
def test_bad_settings_name_key_and_value(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
