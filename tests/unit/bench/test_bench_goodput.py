"""The goodput bench: what clients' time was spent on, which strategies it compares, and what it refuses."""

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from support.made_events import update_folded

from fednano.bench.__main__ import main
from fednano.bench.goodput import churn, contenders, links
from fednano.bench.goodput.contenders import combined, every, existing
from fednano.bench.goodput.played import LOSSES, Played, Spent, played
from fednano.bench.goodput.spans import TimeSpan, joined, seconds, within, without
from fednano.config.compose import compose_config
from fednano.core.events import LeaseReleased, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment

# Spans


def covered(spans: Sequence[TimeSpan]) -> set[int]:
    """The seconds inside spans with whole ends."""
    return {second for start, stop in spans for second in range(int(start), int(stop))}


drawn = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda ends: tuple(map(float, ends))))


@given(drawn, drawn)
def test_spans_are_sets_of_moments(first: list[TimeSpan], second: list[TimeSpan]) -> None:
    a, b = joined(first), joined(second)
    assert covered(a) == covered(first)
    assert covered(without(a, b)) == covered(a) - covered(b)
    assert covered(within(a, b)) == covered(a) & covered(b)
    for spans in (a, without(a, b), within(a, b)):
        assert spans == joined(spans)
        assert seconds(spans) == len(covered(spans))


# What a client's time was spent on


def sent(lease: int, t: float) -> WorkDispatched:
    return WorkDispatched(t=t, round=0, client="a", lease=lease, version=0, steps=1, bytes=0)


def folded(lease: int, busy_from: float, busy_until: float, t: float, ahead: tuple[float, ...] = ()) -> UpdateFolded:
    when = {"t": t, "busy_from": busy_from, "busy_until": busy_until, "ahead": ahead}
    return update_folded(lease=lease, bytes=0, **when)


def released(lease: int, t: float, reason: str) -> LeaseReleased:
    return LeaseReleased(t=t, round=0, client="a", lease=lease, reason=reason)


def refused(lease: int, t: float) -> UpdateRefused:
    return UpdateRefused(t=t, round=0, client="a", lease=lease, reason="expired", bytes=0)


DAY = [(0.0, 100.0)]


@pytest.mark.parametrize(
    ("events", "up", "expected"),
    [
        ([sent(1, 10), folded(1, 12, 32, 35)], DAY, {"merged": 20, "transfers": 5, "waiting": 75}),
        ([sent(9, 10), folded(9, 12, 32, 35)], DAY, {"unmerged": 20, "transfers": 5, "waiting": 75}),
        ([sent(1, 10), released(1, 32, "crash")], DAY, {"crashes": 20, "transfers": 2, "waiting": 78}),
        # The crash is noticed after the client went down.
        ([sent(1, 10), released(1, 50, "crash")], [(0.0, 32.0)], {"crashes": 20, "transfers": 2, "waiting": 10}),
        # The client goes on when its lease has expired, and is refused later.
        (
            [sent(1, 10), released(1, 22, "expired"), refused(1, 62)],
            DAY,
            {"refused": 50, "transfers": 2, "waiting": 48},
        ),
        ([sent(1, 10), released(1, 22, "expired")], DAY, {"refused": 10, "transfers": 2, "waiting": 88}),
        (
            [sent(1, 10), refused(1, 62), released(1, 62, "refused")],
            DAY,
            {"refused": 50, "transfers": 2, "waiting": 48},
        ),
        ([sent(1, 10)], DAY, {"unmerged": 88, "transfers": 2, "waiting": 10}),
        # Overlapped steps hide the way up of the first update and the way down of the second task.
        (
            [sent(1, 0), folded(1, 2, 20, 30), sent(2, 30), folded(2, 35, 50, 60, ahead=(20.0, 33.0))],
            DAY,
            {"merged": 18 + 13 + 15, "transfers": 2 + 2 + 10, "waiting": 40},
        ),
    ],
    ids=["merged", "skipped", "crashed", "down", "late", "expired", "refused", "at the end", "overlapped"],
)
def test_each_second_counts_once(events: list[Any], up: list[TimeSpan], expected: dict[str, int]) -> None:
    spent = Spent(down_s=2.0)
    spent.read(events, merged={1, 2}, ends=100.0)
    found = {cause: seconds(spans) for cause, spans in spent.shares(up).items()}
    assert found == {**dict.fromkeys(("merged", *LOSSES), 0), **expected}
    computed = sum(seconds for cause, seconds in expected.items() if cause not in ("transfers", "waiting"))
    assert seconds(within(spent.computed(), up)) == computed


CHURN = ("volatility=markov", "volatility.exit=crash", "volatility.mean_up_s=40", "volatility.mean_down_s=20")


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=diloco"],
        ["strategy=diloco", "strategy.grace=1"],
        ["strategy=async_diloco"],
        ["strategy=fedbuff", "rounds=null", "budget.virtual_hours=0.1"],
    ],
    ids=["diloco", "refused", "async", "budget"],
)
def test_goodput_is_that_of_the_summary_and_all_shares_make_up_the_whole(
    tiny: list[str], run: Callable[..., dict[str, Any]], overrides: list[str]
) -> None:
    words = combined(tiny, ("clients=3", "rounds=30", "checkpoint_every=100", "eval_every=100"), CHURN, overrides)
    ours = played(words, [1.0, 2.0, 4.0], Silent())
    summary = run(*words, "runtime.compute=analytic", "hardware.tokens_per_s=[32,16,8]")
    assert (ours.goodput, ours.tokens) == (summary["goodput"], summary["tokens"])
    assert ours.hours * 3600 == pytest.approx(summary["virtual_s"])
    assert 0.1 < ours.goodput < 0.9
    assert ours.goodput + sum(ours.losses.values()) == pytest.approx(1.0, abs=1e-6)
    assert ours.losses["crashes"] > 0.01
    assert (ours.losses["refused"] > 0.01) == ("strategy.grace=1" in overrides)


# The parts


def small(tiny: list[str], *words: str) -> list[str]:
    """The words of `tiny` that say what is trained on, for the command."""
    return [*(word for word in tiny if word.startswith(("data", "tokenizer", "model", "arch", "batch_size"))), *words]


def test_churn_costs_a_barrier_more(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--json", "--part", "churn", "--strategies", "diloco, async_diloco strategy.outer.lr=0.5"]
    options += ["--seeds", "2", "--clients", "3", "--hours", "0.2", "--up-s", "60", "--down-s", "60"]
    assert main(["goodput", *options, "--local-steps", "4", *small(tiny, "model=d2", "hardware.threads=1")]) == 0
    barrier, free = json.loads(capsys.readouterr().out)["churn"]
    assert (barrier["contender"], free["contender"]) == ("diloco", "async_diloco outer.lr=0.5")
    for row in (barrier, free):
        assert len(row["goodputs"]) == 2
        assert min(row["goodputs"]) < row["goodput"] < max(row["goodputs"])
        assert set(row["losses"]) == set(LOSSES)
        assert row["tokens"] > 0
        assert row["losses"]["crashes"] > 0.01
        assert row["hours"] == pytest.approx(0.2, rel=0.1)
    assert barrier["goodput"] < 0.75 < free["goodput"]
    assert barrier["losses"]["waiting"] > 0.2 > free["losses"]["waiting"]
    assert barrier["merges"] < free["merges"]


def test_the_share_of_computing_over_a_link_by_hand(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--json", "--part", "links", "--links", "50,5", "--minutes", "2"]
    options += ["--methods", "diloco,diloco codec=int4,diloco round.overlap=64"]
    assert main(["goodput", *options, *small(tiny, "model=d2")]) == 0
    rows = {row["contender"]: row["computing"] for row in json.loads(capsys.readouterr().out)["links"]}
    parameters = played([*small(tiny, "model=d2", "rounds=1", "clients=1")], [1.0], Silent()).parameters
    for mbit_s in (50, 5):
        of = {name: shares[f"{mbit_s}"] for name, shares in rows.items()}
        work = 128 * 0.0262
        transfer = 32 * parameters / 1e6 / mbit_s
        assert of["diloco"] == pytest.approx(work / (work + 2 * transfer + 0.001), rel=0.01)
        thin = work / (work + (1 + 4.125 / 32) * transfer + 0.001)
        assert of["diloco codec=int4"] == pytest.approx(thin, rel=0.01)
        assert of["diloco overlap=64"] > of["diloco"]
        assert of["published: DiLoCo, measured"] == {5: None, 50: 0.1155}[mbit_s]


def test_published_shares_are_converted_to_a_synchronization_per_round() -> None:
    # Of the run at 50 Mbit/s: 180 steps of 26.1 ms and 36.0 s for the only synchronization among them.
    assert links.per_cycle(180 * 0.0261 / (180 * 0.0261 + 36.0)) == pytest.approx(128 * 0.0261 / (128 * 0.0261 + 36.0))
    assert links.per_cycle(0.1155) == pytest.approx(0.085, abs=5e-4)


def test_strategies_are_compared_once_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Namespace(strategies=None, local_steps=50, step_s=1.0)
    monkeypatch.setattr(contenders, "strategies", lambda: {"diloco", "fedbuff"})
    labels = [contender.label for contender in churn.contenders(chosen)]
    assert labels == ["diloco", "diloco local_steps=dynamic", "diloco grace=10 late=next", "fedbuff"]
    monkeypatch.setattr(contenders, "strategies", lambda: {"diloco", "streaming_diloco", "decoupled_diloco"})
    assert {"streaming_diloco", "decoupled_diloco"} <= {c.strategy for c in churn.contenders(chosen)}
    assert {"streaming_diloco", "decoupled_diloco"} <= {c.strategy for c in existing(links.LINES)}


def test_all_that_is_compared_by_default_is_accepted(tiny: list[str]) -> None:
    chosen = Namespace(
        strategies=None,
        methods=None,
        local_steps=50,
        step_s=1.0,
        clients=8,
        hours=1.0,
        up_s=9.0,
        down_s=9.0,
        mbit_s=1.0,
    )
    chosen.overrides = small(tiny, "model=d8")
    for contender in churn.contenders(chosen):
        with contender.named():
            Experiment(compose_config(churn.overrides(chosen, contender)))
    for contender in links.methods(chosen):
        with contender.named():
            Experiment(compose_config(combined(contenders.COMMON, contender.words, ["strategy.local_steps=128"])))


def test_the_model_is_synchronised_every_so_many_steps() -> None:
    assert every(50, ["strategy=diloco"]) == "strategy.local_steps=50"
    assert every(50, ["strategy=diloco", "++strategy.stream={fragments: 4}"]) == "strategy.local_steps=12"


# The command


def test_an_error_names_the_contender(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--part", "churn", "--strategies", "diloco,diloco strategy.grace=-1"]
    options += ["--seeds", "1", "--hours", "0.1", "--local-steps", "4"]
    assert main(["goodput", *options, *small(tiny)]) == 2
    assert "diloco grace=-1: strategy.grace must be >= 0 and finite, got -1; use" in capsys.readouterr().err


def text(tables: Sequence[Table]) -> str:
    console = Console(width=80)
    with console.capture() as shown:
        for table in tables:
            console.print(table)
    return shown.get()


def test_the_tables_fit_into_80_columns() -> None:
    losses = {cause: at / 8 for at, cause in enumerate(LOSSES)}
    run = Played(
        parameters=1, hours=100.0, tokens=12345678901, merges=1234567, goodput=1.0, computing=1.0, losses=losses
    )
    rows = [churn.ChurnRow.of("decoupled_diloco a_long_key_without_spaces=4 fragments=4", [run])]
    chosen = Namespace(clients=8, up_s=1.0, down_s=1.0, step_s=1.0, slowest=4.0, local_steps=50, seeds=1)
    shown = text(churn.tables(rows, chosen))
    words = (
        "12,345.7",
        "1,234,567",
        "100.0–100.0",
        "12.5 %",
        "25.0 %",
        "37.5 %",
        "50.0 %",
        *LOSSES,
        "decoupled_diloco",
    )
    for word in words:
        assert word in shown
    assert "…" not in shown
    shares = {50.0: 0.125, 200.0: 0.25, 1000.0: None, 5000.0: 1.0}
    names = (f"decoupled_diloco {links.OVERLAPPED} {links.THIN}", "published: DiLoCo")
    thin = [links.LinksRow(name, shares) for name in names]
    shown = text(links.tables(thin))
    for word in ("12.5 %", "25.0 %", "–", "100.0 %", "5000", links.OVERLAPPED, *links.THIN.split()):
        assert word in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategies", "diloco,nonesuch"], "--strategies must name choices of strategy, got nonesuch; use some of "),
        (["--strategies", ","], "--strategies must name one strategy or more, got none; leave it out for all"),
        (["--methods", "swarm"], "--methods must name choices of strategy, got swarm; use some of "),
        (["--links", "50,thin"], "--links must be numbers of Mbit/s > 0, got 50,thin; write them like 50,200"),
        (["--links", "0"], "--links must be numbers of Mbit/s > 0, got 0; write them like 50,200"),
        (["--seeds", "0"], "--seeds must be >= 1, got 0; use more"),
        (["--local-steps", "0"], "--local-steps must be >= 1, got 0; use more"),
        (["--hours", "nan"], "--hours must be > 0, got nan; use more"),
        (["--slowest", "0.5"], "--slowest must be >= 1, got 0.5; give how many times longer it takes"),
        (["--minutes", "0"], "--minutes must be > 0, got 0.0; use more"),
    ],
)
def test_senseless_options_are_refused_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["goodput", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
