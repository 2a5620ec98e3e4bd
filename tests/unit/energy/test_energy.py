"""Energy, carbon, cost and their baselines, against sums worked out on paper."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.event_logs import volatile_run

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.event_log import read_log
from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseGranted,
    LeaseReleased,
    RoundMerged,
    RunEnded,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.core.progress import Silent
from fednano.energy.accounting import (
    Consumption,
    Power,
    Signals,
    Spans,
    Usage,
    consumption,
    integral,
    intersection,
    length,
    pieces,
    switched_on,
    union,
)
from fednano.energy.baselines import BaselineSite, always_on, oracle, pausing
from fednano.energy.supply import Column, Supply
from fednano.experiment.experiment import Experiment
from fednano.runtime import meter as metering
from fednano.runtime.meter import Meter
from fednano.runtime.parts import Parts
from fednano.runtime.run_folder import run_in_folder
from fednano.traces.trace import Trace
from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import AlwaysOn
from fednano.volatility.traced import Traced

Run = Callable[..., dict[str, Any]]
POWER = Power(100.0, 1000.0)
# g/kWh: 360 in the first hour, 36 in the second, 180 in the third.
CARBON = Trace([0.0, 3600.0, 7200.0], [360.0, 36.0, 180.0])
whole = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8)


def covered(spans: Any) -> set[int]:
    return {second for a, b in spans for second in range(int(a), int(b))}


@given(whole, whole, st.lists(st.integers(0, 50), max_size=5))
def test_algebra_of_spans_is_that_of_sets(a: list[tuple[int, int]], b: list[tuple[int, int]], cuts: list[int]) -> None:
    first, second = union(a), union(b)
    assert covered(first) == covered(a)
    assert length(first) == len(covered(a))
    assert (first[1:, 0] > first[:-1, 1]).all()
    assert covered(intersection(first, second)) == covered(a) & covered(b)
    cut = pieces(first, np.array(cuts, dtype=float))
    assert covered(cut) == covered(a)
    assert not any(start < c < stop for start, stop in cut for c in cuts)


def test_power_times_intensity_over_steps() -> None:
    # On for 1800 … 7200 s, training 3000 … 4200 s.
    # Idle 100 W: 5400 s = 540 kJ. Training adds 900 W · 1200 s = 1080 kJ. In all 1620 kJ = 0.45 kWh.
    # Grams · 3.6e6: idle 100 · (1800 · 360 + 3600 · 36) = 77.76e6; training 900 · (600 · 360 + 600 · 36) = 213.84e6.
    used = consumption(union([1800, 7200]), union([3000, 4200]), POWER, Signals(CARBON))
    assert (used.on_s, used.train_s) == (5400, 1200)
    assert used.kwh == pytest.approx(0.45)
    assert used.co2_g == pytest.approx((77.76 + 213.84) / 3.6)  # 81 g
    assert used.cost is None


def test_power_times_intensity_over_lines_and_a_price_below_zero() -> None:
    # A line from 0 to 360 g/kWh over an hour, on and training in its second half: mean 270 g/kWh, 0.5 kWh.
    line = Trace([0.0, 3600.0], [0.0, 360.0], "linear")
    half = union([1800, 3600])
    used = consumption(half, half, POWER, Signals(line, Trace([0.0], [-0.2])))
    assert used.kwh == pytest.approx(0.5)
    assert used.co2_g == pytest.approx(135.0)
    assert used.cost == pytest.approx(-0.1)


def test_the_grid_is_exact_on_steps_that_it_meets_and_near_elsewhere() -> None:
    on, busy = union([1800, 7200]), union([3000, 4200])
    exact = consumption(on, busy, POWER, Signals(CARBON))
    assert consumption(on, busy, POWER, Signals(CARBON), 60.0).co2_g == pytest.approx(exact.co2_g)
    # Of [10, 130) a grid of 60 s holds the points 60 and 120: 120 s, each at its own value.
    assert integral(union([10, 130]), Trace([0, 100], [1.0, 3.0]), 60.0) == 60 * 1 + 60 * 3
    # A line's left ends lie below it: Σ k·60 · 60 for k = 0 … 59 is 60² · 1770, the exact area 3600²/2.
    line = Trace([0.0, 3600.0], [0.0, 3600.0], "linear")
    assert integral(union([0, 3600]), line, 60.0) == 60**2 * 1770
    assert integral(union([0, 3600]), line) == 3600**2 / 2


def test_a_machine_idles_while_it_is_provisioned_but_not_before_the_run() -> None:
    assert switched_on(union([(100, 500), (1000, 1200)]), 240).tolist() == [[0, 500], [760, 1200]]


def started() -> RunStarted:
    return next(event for event in volatile_run(1, clients=("a", "b")) if isinstance(event, RunStarted))


def dispatched(t: float, client: str, lease: int) -> WorkDispatched:
    return WorkDispatched(t=t, round=0, client=client, lease=lease, version=0, steps=9, bytes=0)


def released(t: float, client: str, lease: int, reason: str) -> LeaseReleased:
    return LeaseReleased(t=t, round=0, client=client, lease=lease, reason=reason)


def refused(t: float, client: str, lease: int, reason: str) -> UpdateRefused:
    return UpdateRefused(t=t, round=0, client=client, lease=lease, reason=reason, bytes=0)


def folded(t: float, client: str, lease: int, busy: tuple[float, float]) -> UpdateFolded:
    return UpdateFolded(
        t=t, round=0, client=client, lease=lease, version=0, steps=9, tokens=90, row=1, token=0, weight=1.0, norm=1.0,
        train_loss=1.0, drained=False, bytes=0, busy_from=busy[0], busy_until=busy[1],
    )  # fmt: skip


def used(*events: Event) -> Usage:
    usage = Usage()
    for event in (started(), *events):
        usage.add(event)
    return usage


def test_work_counts_whatever_becomes_of_it() -> None:
    usage = used(
        ClientUp(t=0, client="a"),
        dispatched(0, "a", 1), folded(30, "a", 1, (5, 25)),  # merged: as the client says
        dispatched(40, "a", 2), released(60, "a", 2, "expired"), refused(75, "a", 2, "expired"),  # too late
        dispatched(80, "a", 3), refused(90, "a", 3, "empty"), released(90, "a", 3, "refused"),  # no step fitted
        dispatched(100, "a", 4), refused(110, "a", 4, "non_finite"), released(110, "a", 4, "refused"),
        dispatched(120, "a", 5), ClientDown(t=150, client="a", exit="crash"), released(150, "a", 5, "crash"),
        ClientUp(t=170, client="a"),
        dispatched(180, "a", 6), released(190, "a", 6, "expired"), ClientDown(t=195, client="a", exit="crash"),
        ClientUp(t=200, client="a"),
        dispatched(200, "a", 7), folded(210, "a", 7, (201, 209)), released(215, "a", 7, "skipped"),
        dispatched(220, "a", 8), ClientUp(t=230, client="b"),  # still under way at the end
    )  # fmt: skip
    assert usage.busy("a").tolist() == [
        [5, 25], [40, 75], [100, 110], [120, 150], [180, 195], [201, 209], [220, 230],
    ]  # fmt: skip
    assert usage.windows("a").tolist() == [[0, 150], [170, 195], [200, 230]]
    assert usage.windows("b").tolist() == []
    assert usage.busy("b").tolist() == []
    assert usage.tokens == {"a": 180}


def test_what_is_under_way_or_may_be_coming_up_is_not_settled() -> None:
    up, work, down = ClientUp(t=0, client="a"), dispatched(10, "a", 1), ClientDown(t=30, client="a", exit="drain")
    assert used(up, work, ClientUp(t=20, client="b")).settled("a", 5.0) == 10
    assert used(up, work, folded(25, "a", 1, (12, 20))).settled("a", 5.0) == 25
    assert used(up, work, folded(25, "a", 1, (12, 20)), down).settled("a", 5.0) == 25  # on its way since, if it is back
    assert used(up, ClientDown(t=3, client="a", exit="drain")).settled("a", 5.0) == 0
    grant = LeaseGranted(t=10, round=1, client="a", lease=2, pool=0, spans=((0, 0, 9),), expires=math.inf, ahead=(4,))
    ahead = [up, work, grant, folded(25, "a", 1, (12, 20))]
    assert used(*ahead, ClientUp(t=60, client="b")).settled("a", 5.0) == 20  # steps ahead may turn out to be none
    merged = replace(folded(60, "a", 2, (32, 40)), round=1)
    assert used(*ahead, dispatched(30, "a", 2), merged).settled("a", 5.0) == 60


def test_a_run_without_windows_is_on_throughout() -> None:
    assert used(folded(50, "a", 1, (0, 50)), released(60, "b", 2, "end")).windows("a").tolist() == [[0, 60]]


def site(carbon: Trace, tokens_per_s: float = 10.0, ends: float = float("inf")) -> BaselineSite:
    return BaselineSite(client="s", tokens_per_s=tokens_per_s, power=POWER, signals=Signals(carbon), ends=ends)


def test_always_on_trains_from_the_beginning_to_its_last_token() -> None:
    # 54,000 tokens at 10/s take 5400 s: an hour at 360 and half an hour at 36 g/kWh, 1 kW: 360 + 18 g.
    found = always_on(site(CARBON), 54_000)
    assert found is not None
    assert (found.until_s, found.used.kwh) == (5400, pytest.approx(1.5))
    assert found.used.co2_g == pytest.approx(378.0)
    assert always_on(site(CARBON, ends=5000), 54_000) is None


def test_pausing_trains_in_the_first_windows_that_hold_the_tokens() -> None:
    def windows() -> Availability:
        return Availability(iter([Window(1800, 3600, "drain"), Window(5400, 9000, "drain")]))

    # 3600 s of training: 1800 at 360 g/kWh, 1800 at 36 until 7200 s, 1 kW: 180 + 18 g; 3600 s of pauses.
    found = pausing(site(CARBON), 36_000, windows())
    assert found is not None
    assert (found.until_s, found.used.train_s, found.used.on_s) == (7200, 3600, 3600)
    assert found.used.co2_g == pytest.approx(198.0)
    # Pauses at 36 W: 1800 s at 360 g/kWh and 1800 at 36: 0.018 · (360 + 36) g more.
    resting = pausing(site(CARBON), 36_000, windows(), paused_w=36.0)
    assert resting is not None
    assert resting.used.co2_g == pytest.approx(198.0 + 7.128)
    assert pausing(site(CARBON), 60_000, windows()) is None
    assert pausing(site(CARBON, ends=7000), 36_000, windows()) is None


def test_the_oracle_takes_the_cleanest_hours_of_all_sites() -> None:
    # Site a, 10 tokens/s: windows in all three hours, at 36, 18 and 3.6 … g per 1000 tokens: 360/36/180 g/kWh · 1 kW.
    # Site b, 20 tokens/s: a window in the first hour at 100 g/kWh, so 50 g/kWh for as many tokens as a.
    # 90,000 tokens: a's second hour (36,000 at 36 g/kWh), then 54,000 of b's 72,000 at 20/s: 2700 s.
    a, b = site(CARBON), site(Trace([0.0], [100.0]), 20.0)
    windows = [union([0, 10_800]), union([0, 3600])]
    found = oracle([a, b], windows, 90_000)
    assert found is not None
    assert (found.used.train_s, found.until_s) == (6300, 7200)
    assert found.used.kwh == pytest.approx(1.75)
    assert found.used.co2_g == pytest.approx(36.0 + 75.0)
    # All that the windows hold: 108,000 + 72,000 tokens.
    everything = oracle([a, b], windows, 180_000)
    assert everything is not None
    assert everything.used.co2_g == pytest.approx(360 + 36 + 180 + 100)
    assert oracle([a, b], windows, 181_000) is None
    # Without intensities the least energy: b needs half the time for a token.
    plain = oracle(
        [
            BaselineSite(client="a", tokens_per_s=10.0, power=POWER, signals=Signals()),
            BaselineSite(client="b", tokens_per_s=20.0, power=POWER, signals=Signals()),
        ],
        windows,
        72_000,
    )
    assert plain is not None
    assert (plain.used.train_s, plain.used.co2_g) == (3600, None)


CSV = "t,x,y\n0,100,-5\n3600,200,10\n7200,300,20\n"


def column(tmp_path: Path, text: str = CSV, **settings: Any) -> Column:
    (tmp_path / "x.csv").write_text(text)
    return Column(file=str(tmp_path / "x.csv"), **settings)


def test_columns_follow_the_clock_of_the_volatility_trace(tmp_path: Path) -> None:
    carbon = column(tmp_path, columns=["x"], on_end="repeat")
    price = column(tmp_path, columns={"c": "y"}, scale=0.001, on_end="repeat")
    supply = Supply(name="t", carbon=carbon, price=price)
    profile = Traced(file=str(tmp_path / "x.csv"), threshold=250, on_end="repeat", offset_s=3600, speedup=60)
    signals = supply.signals("c", 0, profile)
    assert signals.carbon is not None
    assert signals.price is not None
    # 60 s of the run are an hour of the file, whose second hour is the run's first minute.
    assert signals.carbon.value([0, 59, 60, 120, 180]).tolist() == [200, 200, 300, 100, 200]
    assert signals.price.value([0, 60, 120]).tolist() == pytest.approx([0.010, 0.020, -0.005])
    own = Supply(name="t", carbon=carbon, offset_s=0.0, speedup=3600.0).signals("c", 0, profile).carbon
    assert own is not None
    assert own.value([0, 1, 2]).tolist() == [100, 200, 300]
    # The same joules in a sped-up hour meet the same mean intensity: 1 kW · 60 s at 200 g/kWh.
    minute = union([0, 60])
    assert consumption(minute, minute, POWER, signals).co2_g == pytest.approx(200 / 60)


def test_open_spans_are_those_of_the_condition(tmp_path: Path) -> None:
    column(tmp_path)
    profile = Traced(
        file=str(tmp_path / "x.csv"), columns=["x"], threshold=150, on_end="repeat", offset_s=1800, speedup=10,
        hysteresis_s=900, provisioning_s=600,
    )  # fmt: skip
    # Below 150 in [0, 3600) of every 10,800 s; the run begins at 1800 and a second of it is 10 of the file.
    assert profile.open_spans("c", 0, 2000) == [(0, 180), (900, 1260), (1980, 2000)]


def test_a_trace_that_ends_is_missed_only_by_who_goes_on(tmp_path: Path) -> None:
    ending = Supply(name="t", carbon=column(tmp_path, columns=["x"]), speedup=10.0)
    assert ending.ends(AlwaysOn()) == 1080
    ending.require(1080, AlwaysOn())
    with pytest.raises(ValueError, match=r"ends 1,080 s into the run.*energy.carbon.on_end=repeat or hold"):
        ending.require(1081, AlwaysOn())
    held = Supply(name="t", carbon=column(tmp_path, columns=["x"], on_end="hold"))
    held.require(1e9, AlwaysOn())
    assert held.ends(AlwaysOn()) == float("inf")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["hardware.train_watts=-1"], ("hardware.train_watts must be >= 0 watts and finite, got -1", "a list")),
        (["hardware.idle_watts=[]"], ("hardware.idle_watts must be >= 0 watts and finite, got []", "a list")),
        (["energy.carbon=-3"], ("energy.carbon must be >= 0 g/kWh, got -3", "0 or more")),
        (["energy.carbon=dirty"], ("energy.carbon must be a number", "got dirty")),
        (["energy.grid_s=0"], ("energy.grid_s must be >= 0.001, got 0",)),
        (["energy.integration=mean"], ("energy.integration must be exact or grid, got mean",)),
        (["energy.paused_watts=-1"], ("energy.paused_watts must be >= 0 watts, got -1", "0 or more")),
        (["energy.speedup=0"], ("energy.speedup must be >= 1e-06, got 0",)),
        (["energy.offset_s=-1"], ("energy.offset_s must be >= 0 seconds, got -1", "null")),
        (["energy=trace", "energy.carbon.file=no.csv"], ("energy.carbon.file=", "no.csv does not exist")),
        (["energy=trace", "energy.price.columns=[oslo]"], ("synthetic_price.csv has no column oslo", "almeria")),
        (["energy=trace", "energy.price.columns={client_0: almeria}"], ("energy.price.columns", "client_1")),
        (["energy=trace", "energy.carbon.file=package:synthetic_price.csv"], ("energy.carbon must be >= 0 g/kWh", "-")),
        (["energy=trace", "energy.carbon.scale=inf"], ("energy.carbon.scale must be 0, or 1e-12 to 1e+15", "inf")),
        (["energy=trace", "energy.carbon.columns=[]"], ("energy.carbon.columns must name at least", "got []")),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_line(overrides: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Experiment(compose_config(overrides))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_gap_names_its_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"energy\.carbon\.on_gap=hold"):
        Supply(name="t", carbon=column(tmp_path, "t,x\n0,1\n60,2\n120,3\n600,4\n"))


def test_the_summary_is_what_the_event_log_and_the_watts_say(run: Run) -> None:
    summary = run(
        "clients=2", "rounds=4", "hardware.idle_watts=36", "hardware.train_watts=[360,720]", "energy.carbon=[100,500]",
        "energy.price=0.25",
    )  # fmt: skip
    energy = summary["energy"]
    up = {"client_0": 0.0, "client_1": 0.0}
    busy = dict(up)
    since: dict[str, float] = {}
    work: dict[int, float] = {}
    for event in read_log(summary["folder"] / "events.jsonl"):
        match event:
            case ClientUp():
                since[event.client] = event.t
            case ClientDown():
                up[event.client] += event.t - since.pop(event.client)
            case WorkDispatched():
                work[event.lease] = event.t
            case UpdateFolded():
                busy[event.client] += event.busy_until - event.busy_from
            case LeaseReleased() if event.reason == "crash":
                busy[event.client] += event.t - work[event.lease]
        end = event.t
    for client, begun in since.items():
        up[client] += end - begun
    watts = {"client_0": (36, 360, 100), "client_1": (36, 720, 500)}
    for client, (idle, train, intensity) in watts.items():
        joules = idle * up[client] + (train - idle) * busy[client]
        assert energy["clients"][client]["kwh"] == pytest.approx(joules / 3.6e6)
        assert energy["clients"][client]["co2_g"] == pytest.approx(joules * intensity / 3.6e6)
        assert energy["clients"][client]["share_in_windows"] == pytest.approx(1.0)
        alone = energy["baselines"]["always_on"][client]
        assert alone["kwh"] == pytest.approx(summary["tokens"] / 32 * train / 3.6e6)
        assert alone["run_to_it"]["co2_g"] == pytest.approx(summary["co2_g"] / alone["co2_g"])
        assert energy["baselines"]["pausing"][client]["kwh"] == pytest.approx(alone["kwh"])
    assert summary["energy_kwh"] == pytest.approx(sum(found["kwh"] for found in energy["clients"].values()))
    assert energy["total"]["cost"] == pytest.approx(0.25 * summary["energy_kwh"])
    # A token costs client_0 a tenth of the carbon, so that the oracle leaves all to it, unless its windows were short.
    assert energy["baselines"]["oracle"]["co2_g"] <= summary["co2_g"]
    assert len(json.loads((summary["folder"] / "energy.json").read_text())["carbon_g_kwh"]["client_0"]) > 2


ANALYTIC = ("runtime.compute=analytic", "rounds=12", "network=flaky", "strategy.slack=1.2")
Played = Callable[..., tuple[Parts, list[Event]]]


@pytest.fixture
def played(tiny: list[str], tmp_path: Path) -> Played:
    """The parts of a run with some overrides, and its event log."""

    def go(*overrides: str) -> tuple[Parts, list[Event]]:
        markov = not any(word.startswith("volatility=") for word in overrides)
        words = [word for word in tiny if markov or not word.startswith("volatility.")]
        experiment = Experiment(compose_config([*words, *overrides]))
        parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
        run_in_folder(tmp_path, "test", experiment.runtime, parts, experiment.groups.logger, {"name": "test"})
        return parts, list(read_log(tmp_path / "events.jsonl"))

    return go


@pytest.mark.parametrize(
    "overrides",
    [
        (*ANALYTIC, "energy.carbon=[100,500]", "energy.price=0.25"),
        (*ANALYTIC, "energy.integration=grid", "energy.grid_s=2", "volatility.mean_down_s=30"),
        (
            *(*ANALYTIC, "volatility=trace", "volatility.file=SIGNAL", "volatility.threshold=50"),
            *("volatility.speedup=1", "volatility.offset_s=0", "volatility.exit=mixed", "volatility.on_end=repeat"),
            *("volatility.provisioning_s=3", "volatility.hysteresis_s=2"),
            *("energy=trace", "energy.price=null", "energy.carbon.file=SIGNAL", "energy.carbon.on_end=repeat"),
        ),
        ("runtime=centralized",),
    ],
)
def test_what_is_counted_as_a_run_goes_is_the_account_of_it_so_far(
    played: Played, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    # Sites of which one is being provisioned while the other is at work.
    waves = [f"{t},{10 if t // 11 % 2 else 90},{10 if (t + 4) // 11 % 2 else 90}" for t in range(88)]
    (tmp_path / "signal.csv").write_text("\n".join(["t,x,y", *waves]) + "\n")
    parts, events = played(*[word.replace("SIGNAL", str(tmp_path / "signal.csv")) for word in overrides])
    meter, whole = Meter(parts), Meter(parts)
    told = 0
    for event in events:
        meter.event(event)
        whole.event(event)
        if isinstance(event, RoundMerged):
            so_far, account = meter.so_far(), whole.account(0)
            told += 1
            totals = {"energy_kwh": account["total"]["kwh"], "co2_g": account["total"]["co2_g"]}
            assert meter.totals() == pytest.approx(totals, rel=1e-9, abs=1e-12)
            assert so_far["clients"].keys() == account["clients"].keys()
            for name, found in (("total", so_far["total"]), *so_far["clients"].items()):
                expected = account["total"] if name == "total" else account["clients"][name]
                assert {k: v for k, v in found.items() if v is not None} == pytest.approx(
                    {k: v for k, v in expected.items() if v is not None}, rel=1e-9, abs=1e-12
                )
    assert told >= 2


def test_no_hour_is_looked_at_again(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, events = played(*ANALYTIC, "rounds=20", "network=dsl")
    looked_at = []

    def watched(on: Spans, busy: Spans, **more: Any) -> Consumption:
        looked_at.append(length(on))
        return consumption(on, busy, **more)

    monkeypatch.setattr(metering, "consumption", watched)
    meter = Meter(parts)
    for event in events:
        meter.event(event)
        if isinstance(event, RoundMerged):
            so_far = meter.so_far()
    # Every second that a machine was on counts twice: for itself, and as inside windows; that of work under way again.
    assert sum(looked_at) < 3 * 3600 * so_far["total"]["on_h"]


def test_a_centralized_run_is_counted_too(run: Run) -> None:
    summary = run("runtime=centralized", "energy=none", "hardware.train_watts=3600", "hardware.idle_watts=0")
    assert summary["energy_kwh"] == pytest.approx(summary["virtual_s"] / 1000)
    assert summary["co2_g"] is None
    assert summary["energy"]["baselines"]["always_on"]["client_0"]["run_to_it"]["kwh"] == pytest.approx(1.0)


def test_a_trace_shorter_than_the_run_is_refused_before_training(run: Run, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("t,x\n0,100\n1,100\n2,100\n")
    with pytest.raises(ValueError, match=r"energy.carbon.file=.* ends 3 s into the run"):
        run("energy=trace", "energy.price=null", f"energy.carbon.file={tmp_path / 'short.csv'}")
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_trace_that_a_centralized_run_alone_outlasts_is_refused_before_anything_is_written(
    played: Played, tmp_path: Path
) -> None:
    # Four clients' batches on one machine: 48 s, where the clients together need a third of that.
    short = tmp_path / "short.csv"
    short.write_text("t,x\n0,100\n15,100\n30,100\n")
    overrides = ("volatility=none", "energy=trace", "energy.price=null", f"energy.carbon.file={short}")
    with pytest.raises(ValueError, match=r"energy.carbon.file=.* ends 45 s into the run"):
        played(*overrides, "runtime=centralized")
    assert list(tmp_path.iterdir()) == [short]
    assert isinstance(played(*overrides)[1][-1], RunEnded)


def test_the_curtailment_experiments_share_one_trace() -> None:
    for name in ("curtailment", "curtailment_small"):
        groups = build_groups(compose_config([f"experiment={name}"]), ["volatility", "energy", "hardware"])
        profile, supply = groups["volatility"], groups["energy"]
        assert supply.carbon.file == profile.file == "package:synthetic_marginal.csv"
        carbon = supply.signals("client_0", 0, profile).carbon
        start, stop = profile.open_spans("client_0", 0, 5 * 86400 / profile.speedup)[0]
        assert carbon.value(start) < 100
        assert carbon.value(stop + 1e-6) >= 100
        assert groups["hardware"].watts(2) == (468.0, 2024.0)


def test_who_foresees_the_ends_of_windows_emits_a_twentieth_of_each_site_always_on(
    text_folder: Path, tmp_path: Path
) -> None:
    def played(planner: str) -> dict[str, Any]:
        overrides = [
            *("experiment=curtailment", f"planner={planner}", "data=text", f"data.path={text_folder}"),
            *(f"data.root={tmp_path / 'corpora'}", "tokenizer.vocab_size=300", "eval_tokens=512"),
            *("model.sequence_len=512", "batch_size=1024"),  # steps of as many tokens, of a shorter held-out text
        ]
        experiment = Experiment(compose_config(overrides))
        parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
        folder = tmp_path / planner
        folder.mkdir()
        run_in_folder(folder, planner, experiment.runtime, parts, experiment.groups.logger, {"name": planner})
        found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        return found

    blind, aware = played("blind"), played("aware")
    shares = {
        name: [row["run_to_it"]["co2_g"] for row in summary["energy"]["baselines"]["always_on"].values()]
        for name, summary in (("blind", blind), ("aware", aware))
    }
    assert len(shares["aware"]) == aware["energy"]["sites_compared"] == 3
    assert max(shares["aware"]) < 0.05 < min(shares["blind"])
    assert aware["energy"]["total"]["share_in_windows"] == pytest.approx(1)
    assert blind["energy"]["total"]["share_in_windows"] < 0.95
    assert aware["tokens"] > 0.95 * blind["tokens"]
