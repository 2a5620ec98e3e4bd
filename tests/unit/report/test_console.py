"""The console on a terminal and in a log."""

import io
import math
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console as RichConsole
from support.event_logs import CLIENTS, centralized_run, steps_of, summary_of, volatile_run
from support.inner_steps import step_of

from fednano.core.events import (
    ClientDown,
    Evaluated,
    Event,
    RoundMerged,
    RoundSkipped,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.report.figures import figures_of
from fednano.report.sinks import REFUSAL
from fednano.report.terminal import console as console_module
from fednano.report.terminal import display
from fednano.report.terminal.console import Console, RichProgress
from fednano.report.terminal.glyphs import UNICODE
from fednano.report.terminal.live import RunPace

FOLDER = Path("outputs/quickstart/now")


def _log() -> tuple[RichConsole, io.StringIO]:
    text = io.StringIO()
    return RichConsole(file=text, force_terminal=False, width=100), text


def _terminal() -> RichConsole:
    return RichConsole(
        record=True, force_terminal=True, force_interactive=True, width=100, height=40, file=io.StringIO()
    )


def _play(console: Console, events: list[Event]) -> None:
    for event in events:
        if isinstance(event, UpdateFolded):
            for step in steps_of([event]):
                console.step(step)
        console.event(event)


def _shown(console: Console) -> list[str]:
    """What the live display holds now."""
    page = RichConsole(record=True, width=100, file=io.StringIO())
    page.print(console._render())
    return page.export_text().splitlines()


def test_a_log_gets_one_plain_line_for_each_round_and_evaluation() -> None:
    out, text = _log()
    events = volatile_run(rounds=10)
    console = Console("quick[bold]start", FOLDER, out)
    _play(console, events)
    lines = text.getvalue().splitlines()
    assert lines[0] == "fednano quick[bold]start: 8.78M parameters, 4 clients, 10 rounds, 25 local steps a round"
    assert lines[1] == "strategy diloco, volatility markov, runtime virtual, seed 0"
    told = [e for e in events if isinstance(e, RoundMerged | RoundSkipped | Evaluated)]
    assert len(lines) == 2 + len(told)
    for event, line in zip(told, lines[2:], strict=True):
        match event:
            case RoundMerged():
                assert line.startswith(f"round {event.round + 1}/10  {len(event.leases)} update")
                assert f"loss {event.train_loss:.4f}  {event.tokens_total:,} tokens" in line
            case RoundSkipped():
                assert line == f"round {event.round + 1}/10  skipped (quorum)  {event.updates} update"
            case Evaluated():
                assert line.startswith(f"validation  {event.val_bpb:.4f} bits per byte  loss ")
    assert {c for c in text.getvalue() if not c.isprintable()} == {"\n"}


@pytest.mark.parametrize("written", [True, False])
def test_the_close_prints_the_summary_and_the_report(
    tmp_path: Path, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, text = _log()
    events = volatile_run(rounds=6)
    summary = summary_of(events)
    console = Console("quickstart", tmp_path, out)
    _play(console, events)
    if written:
        (tmp_path / "report.html").touch()
    console.close(summary)
    shown = {line[: display.LABEL].rstrip(): line[display.LABEL :].rstrip() for line in text.getvalue().splitlines()}
    assert shown["status"] == "completed"
    assert shown["tokens trained"] == f"{summary['tokens']:,}"
    assert shown.get("report") == (str(tmp_path / "report.html") if written else None)
    monkeypatch.chdir(tmp_path.parent)
    console.close(summary)
    assert not written or f" {tmp_path.name}/report.html\n" in text.getvalue()
    assert shown["updates refused"] == f"{figures_of(events).sum('refused')} stale"
    assert (shown["rows lost"], shown["rows trained twice"]) == ("0", "0")
    initial, final = summary["val_bpb_initial"], summary["val_bpb"]
    assert shown["validation bits per byte"].startswith(f"{initial:.3f} → {final:.3f} (")


def test_eighty_columns_hold_the_display_and_the_summary() -> None:
    page = RichConsole(record=True, width=80, file=io.StringIO())
    console = Console("quickstart", FOLDER, RichConsole(force_terminal=True, width=80, height=40, file=io.StringIO()))
    events = volatile_run(rounds=20, clients=tuple(f"client_{k}" for k in range(12)))
    _play(console, events)
    page.print(console._render())
    console.stop()
    rows = {"total": 10**12, "done": 10**12, "leased": 10**6, "free": 10**12, "lost": 0, "doubled": 0}
    shares = {f"client_{k}": {"co2_g": 14_500.0, "run_to_it": {"co2_g": 0.095}} for k in range(12)}
    energy = {"clients": {client: {"train_h": 1.0} for client in shares}, "baselines": {"always_on": shares}}
    page.print(display.summary_text({**summary_of(events), "rows": rows, "energy": energy}), soft_wrap=True)
    text = page.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert "  client_4                9.5 % of 14.5 kg" in text


def test_an_evaluation_without_a_model_is_one_word() -> None:
    out, text = _log()
    first, *_ = volatile_run(rounds=1)
    nothing = Evaluated(t=0.0, round=0, version=0, tokens_total=5, val_loss=math.nan, val_bpb=math.nan, wall_s=0.0)
    _play(Console("quickstart", FOLDER, out), [first, nothing])
    assert text.getvalue().splitlines()[-1] == "validation  not measured  5 tokens"


def test_a_model_that_is_not_finite_any_more_has_diverged() -> None:
    out, text = _log()
    events = [e if not isinstance(e, Evaluated) or not e.round else replace(e, val_loss=math.nan, val_bpb=math.nan)
              for e in volatile_run(rounds=2)]  # fmt: skip
    console = Console("quickstart", FOLDER, out)
    _play(console, events)
    assert "validation  not finite: the model has diverged  " in text.getvalue()
    assert "not measured" not in text.getvalue()
    shown = RichConsole(file=io.StringIO(), record=True, width=80)
    shown.print(console._render())
    assert re.search(r"validation bits per byte +diverged", shown.export_text())


def test_figures_that_were_not_measured_are_left_out_of_the_summary() -> None:
    labels = [label for label, _ in display.summary_lines({"status": "failed", "tokens": 0, "goodput": None})]
    assert labels == ["status", "tokens trained"]


def test_a_run_that_has_merged_nothing_says_so() -> None:
    summary = {"status": "completed", "tokens": 0, "val_bpb": 4.0, "val_bpb_initial": 4.0}
    assert ("tokens trained", "none: no update was merged, and the model is as it began") in display.summary_lines(
        summary
    )
    assert ("tokens trained", "0") in display.summary_lines({**summary, "val_bpb": None})  # it has no model


def test_nothing_is_said_of_a_run_that_is_refused() -> None:
    out, text = _log()
    Console("quickstart", FOLDER, out).close(REFUSAL)
    assert text.getvalue() == ""


def test_a_run_without_rounds_counts_merges() -> None:
    first, *rest = volatile_run(rounds=10)
    assert isinstance(first, RunStarted)
    out, text = _log()
    console = Console("quickstart", FOLDER, out)
    _play(console, [replace(first, unit="merge"), *rest])
    console.close(summary_of([first, *rest]))
    lines = text.getvalue().splitlines()
    assert lines[0].endswith("10 merges, 25 local steps a task")
    assert [line.split("  ")[0] for line in lines if "update" in line][:2] == ["merge 1/10", "merge 2/10"]
    assert any(line.startswith("merges    ") for line in lines)
    assert not any("round" in line for line in lines)


def test_a_run_that_only_a_budget_ends_counts_its_tokens() -> None:
    first, *rest = volatile_run(rounds=8)
    assert isinstance(first, RunStarted)
    merged = [e for e in rest if isinstance(e, RoundMerged)]
    events = [replace(first, rounds=0, tokens_planned=2 * merged[-1].tokens_total), *rest]
    out, text = _log()
    console = Console("quickstart", FOLDER, out)
    _play(console, events)
    lines = [line for line in text.getvalue().splitlines() if line.startswith("round ")]
    assert [line.split("  ")[0] for line in lines] == [f"round {k}" for k in range(1, 9)]
    assert console.figures.progress == (merged[-1].tokens_total, 2 * merged[-1].tokens_total)
    pace = console.pace()
    assert pace.eta_s == pytest.approx(pace.elapsed_s)
    assert "round 8 " in "\n".join(_shown(console))


@pytest.mark.parametrize(
    ("key", "words"), [("budget.tokens", "token budget reached"), ("rounds", "all rounds done"), (None, None)]
)
def test_the_close_says_what_ended_the_run(key: str | None, words: str | None) -> None:
    lines = dict(display.summary_lines({"status": "completed", "ended_by": key}))
    assert lines.get("why it ended") == words


def test_the_live_display_shows_each_client_and_the_latest_figures() -> None:
    console = Console("quickstart", FOLDER, out := _terminal())
    events = volatile_run(rounds=8)
    crash = next(k for k, e in enumerate(events) if isinstance(e, ClientDown) and e.exit == "crash")
    _play(console, events[: crash + 1])
    crashed = events[crash]
    assert isinstance(crashed, ClientDown)
    [row] = [line for line in _shown(console) if crashed.client in line]
    assert "✕ crashed" in row
    _play(console, events[crash + 1 :])
    page = _shown(console)
    figures = figures_of(events)
    text = "\n".join(page)
    assert "round 8/8" in text
    assert figures.last_eval
    assert f"validation bits per byte {figures.last_eval.val_bpb:.3f} █" in text
    assert f"updates refused {figures.sum('refused')}" in text
    for name in CLIENTS:
        [row] = [line for line in page if name in line]
        assert f" {figures.clients[name].rows} " in row
    console.close(summary_of(events))
    assert "updates refused" in "".join(out.export_text().splitlines()[-2:])


def test_a_client_that_was_sent_work_trains_from_step_0() -> None:
    console = Console("quickstart", FOLDER, _terminal())
    events = volatile_run(rounds=8)
    sent = next(k for k, e in enumerate(events) if isinstance(e, WorkDispatched) and e.round == 5)
    _play(console, events[: sent + 1])
    client = events[sent].client  # type: ignore[attr-defined]
    [row] = [line for line in _shown(console) if client in line]
    assert "● training" in row
    assert " 0/25 " in row
    console.step(step_of(client, 5, 7, 25, 2.5, 1024))
    [row] = [line for line in _shown(console) if client in line]
    assert " 7/25   2.500 " in row
    console.close({})


def test_many_clients_do_not_overflow_the_screen() -> None:
    console = Console("quickstart", FOLDER, _terminal())
    _play(console, volatile_run(rounds=2, clients=tuple(f"site-{k:03d}" for k in range(200))))
    page = _shown(console)
    assert len(page) <= 40
    shown = sum("site-" in line for line in page)
    assert shown > 20
    assert any(f"and {200 - shown} more" in line for line in page)
    console.close({})


def test_a_run_without_clients_shows_its_own_steps() -> None:
    console = Console("baseline", FOLDER, _terminal())
    _play(console, centralized_run(3))
    console.step(step_of("central", 4, 3, 10, 4.25, 1024))
    [row] = [line for line in _shown(console) if "central " in line and "3/10" in line]
    assert "4.250" in row
    console.close({})


def test_the_time_left_follows_from_the_rounds_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console_module, "wall", lambda: now[0])
    out, text = _log()
    console = Console("quickstart", FOLDER, out)
    events = volatile_run(rounds=9)
    _play(console, events[:1])
    now[0] += 30.0
    _play(console, [e for e in events if isinstance(e, RoundMerged) and e.round < 3])
    console.step(step_of("site-0", 4, 1, 25, 3.0, 600))
    assert console.pace() == RunPace(elapsed_s=30.0, eta_s=60.0, tokens_per_s=20.0)
    assert "left 1m 00s" in text.getvalue().splitlines()[-1]


def test_drawing_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console_module, "wall", lambda: now[0])
    console = Console("quickstart", FOLDER, _terminal())
    _play(console, volatile_run(rounds=1)[:1])
    drawn: list[float] = []
    monkeypatch.setattr(console, "_render", lambda: drawn.append(now[0]) or "")
    for k in range(100):
        now[0] = 101.0 + k / 100
        console.step(step_of("site-0", 1, k, 100, 3.0, 10))
    assert 2 <= len(drawn) <= 4
    console.close({})


def test_sparkline_scales_between_its_extremes() -> None:
    assert UNICODE.sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert UNICODE.sparkline([1.0, float("nan"), 1.0]) == "▁▁"
    assert UNICODE.sparkline([]) == ""
    assert len(UNICODE.sparkline(list(range(100)), width=20)) == 20


def test_progress_in_a_log_says_what_began_and_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console_module, "wall", lambda: now[0])
    out, text = _log()
    progress = RichProgress(out)
    progress.start("download", 4_000_000, "bytes")
    progress.advance(1_000_000)
    now[0] = 12.0
    progress.advance(1_000_000)
    progress.advance(2_000_000)
    now[0] = 15.0
    progress.finish()
    assert text.getvalue().splitlines() == [
        "download …",
        "download: 2.00 MB of 4.00 MB",
        "download: 4.00 MB in 15.0 s",
    ]


def test_progress_on_a_terminal_ends_full() -> None:
    out = _terminal()
    progress = RichProgress(out)
    progress.start("train tokenizer [x]", None, "merges")
    progress.advance(3800)
    progress.finish()
    line = out.export_text().splitlines()[-1]
    assert "train tokenizer [x]" in line
    assert "3,800 merges" in line


def test_the_end_says_why_updates_were_refused(tmp_path: Path) -> None:
    events, out = volatile_run(rounds=2), RichConsole(file=io.StringIO(), record=True, width=120)
    refused = UpdateRefused(t=1.0, round=0, client=CLIENTS[0], lease=0, reason="malformed", bytes=0, cause="no layout")
    console = Console("test", tmp_path, out)
    for event in [*events, refused]:
        console.event(event)
    console.close(summary_of(events))
    assert f"malformed, {CLIENTS[0]}: no layout" in out.export_text()
