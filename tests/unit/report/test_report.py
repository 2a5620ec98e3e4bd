"""The HTML report, the metrics file and the sinks: what is shown is what the events say."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.event_logs import CLIENTS, ROW_TOKENS, centralized_run, volatile_run
from support.inner_steps import step_of
from support.pages import Page, page_of, tiles, write_run

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Evaluated,
    Event,
    RoundMerged,
    RoundSkipped,
    RunEnded,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
)
from fednano.core.inner_step import InnerStep
from fednano.core.packed import Packed
from fednano.report import units
from fednano.report.figures import figures_of, rows_before
from fednano.report.history import ClientLane, History, WorkBar
from fednano.report.sinks import Fanout, Local
from fednano.report.terminal.display import summary_lines
from fednano.report.web import svg
from fednano.report.web.html import LiveReport, write_report
from fednano.report.web.timeline import timeline


def of(events: list[Event], kind: type[Any], **fields: Any) -> list[Any]:
    return [e for e in events if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())]


def test_headline_figures_are_those_of_the_run(tmp_path: Path) -> None:
    events = volatile_run(rounds=20)
    page = page_of(write_run(tmp_path, events))
    assert page.texts("span", id="status") == ["completed"]
    assert page.texts("p", class_="notice") == []
    found = tiles(page)
    first, last = of(events, Evaluated)[0], of(events, Evaluated)[-1]
    assert found["Validation bits per byte"][0] == f"{last.val_bpb:.3f}"
    assert f"from {first.val_bpb:.3f}" in found["Validation bits per byte"][1]
    tokens = sum(e.tokens for e in of(events, RoundMerged))
    assert found["Tokens trained"] == (
        units.count(tokens),
        f"of {units.count(events[0].tokens_planned)} planned",
    )  # type: ignore[attr-defined]
    assert found["Goodput"][0] == "73.1 %"
    assert found["Sent by clients"][0] == units.size(sum(e.bytes for e in of(events, UpdateFolded)))
    assert found["Rows lost / trained twice"][0] == "0 / 0"
    assert found["Virtual time"] == (units.duration(events[-1].t), "20 rounds")


def test_the_timeline_has_a_lane_per_client_with_everything_that_happened(tmp_path: Path) -> None:
    events = volatile_run(rounds=20)
    page = page_of(write_run(tmp_path, events))
    assert [a["data-client"] for t, a, _ in page.elements if t == "g" and "data-client" in a] == list(CLIENTS)
    skipped = {e.round for e in of(events, RoundSkipped)}
    discarded = [e for e in of(events, UpdateFolded) if e.round in skipped]
    drained = [e for e in of(events, UpdateFolded, drained=True) if e.round not in skipped]
    classes = Counter((a.get("class") or "").split()[-1] for t, a, _ in page.elements if t == "rect")
    assert classes["window"] == len(of(events, ClientUp))
    assert classes["drained"] == len(drained)
    assert classes["discarded"] == len(discarded)
    assert classes["full"] == len(of(events, UpdateFolded)) - len(drained) - len(discarded)
    assert classes["refused"] == len(of(events, UpdateRefused))
    assert classes["lost"] == len(of(events, ClientDown, exit="crash"))
    assert len(page.texts("path", class_="crash")) == len(of(events, ClientDown, exit="crash"))
    assert len(page.texts("line", class_="merge")) == len(of(events, RoundMerged))
    assert "round 4: merged, all steps 25 steps, 4m 03s to 4m 38s" in page.texts("title")


def history_of_rounds(length: float, pause: float, rounds: int) -> History:
    """One client, up throughout, whose rounds take `length` seconds, `pause` seconds apart."""
    history = History()
    starts = [k * (length + pause) for k in range(rounds)]
    work = {(k, k): WorkBar(start=t, stop=t + length, kind="full", round=k, steps=25) for k, t in enumerate(starts)}
    end = rounds * (length + pause)
    history.lanes["a"] = ClientLane(client="a", windows=Packed(lambda *span: span, "dd", [(0.0, end)]), work=work)
    history.figures.t = end
    return history


def test_a_run_of_days_is_drawn_wide_and_dated_to_the_second(tmp_path: Path) -> None:
    short, long = timeline(history_of_rounds(10, 1, 20)), timeline(history_of_rounds(120, 21_480, 8))
    assert short is not None
    assert long is not None
    assert (short.frame.width, short.wide, long.wide) == (1100, False, True)
    assert all(bar.width == pytest.approx(4.0, abs=0.2) for bar in long.lanes[0].work)
    assert {"6h", "12h", "1d", "1d 6h"} <= {tick.label for tick in long.x_ticks}
    assert long.lanes[0].work[5].label == "round 5: merged, all steps\n25 steps, 1d 06h 00m 00s to 1d 06h 02m 00s"
    assert long.frame.x1 >= max(bar.x + bar.width for bar in long.lanes[0].windows)
    assert timeline(history_of_rounds(1, 1e6, 9)).frame.width == pytest.approx(8800, abs=700)
    assert not timeline(history_of_rounds(0.1, 10, 2000)).wide  # so many bars would make the page heavy
    wide = page_of(write_run(tmp_path, [replace(event, t=100 * event.t) for event in volatile_run(rounds=4)]))
    (style,) = [a.get("style") for t, a, _ in wide.elements if t == "svg" and "timeline" in (a.get("class") or "")]
    assert style is not None
    assert style.startswith("width: ")


def test_the_client_table_counts_merged_work_only(tmp_path: Path) -> None:
    events = volatile_run(rounds=20)
    page = page_of(write_run(tmp_path, events))
    merged = {lease for e in of(events, RoundMerged) for lease in e.leases}
    cells = page.texts("td")
    assert page.texts("th")[14:] == [*CLIENTS, "all clients"]
    for k, client in enumerate(CLIENTS):
        mine = [e for e in of(events, UpdateFolded, client=client) if e.lease in merged]
        exits = Counter(e.exit for e in of(events, ClientDown, client=client))
        refused = of(events, UpdateRefused, client=client)
        share, up, busy, updates, steps, rows, tokens, weight, *rest = cells[13 * k : 13 * (k + 1)]
        assert updates == f"{len(mine):,}"
        assert steps == f"{sum(e.steps for e in mine):,}"
        assert tokens == f"{sum(e.tokens for e in mine):,}"
        assert rows == f"{sum(e.tokens // ROW_TOKENS for e in mine):,}"
        assert rest[:3] == [str(exits["drain"]), str(exits["crash"]), str(len(refused))]
        assert share == "25.0 %"
        assert weight.endswith("%")
        assert up.endswith("%")
        assert busy.endswith("%")
    assert cells[-7] == f"{sum(e.tokens for e in of(events, RoundMerged)):,}"


def test_an_update_that_its_round_left_out_counts_for_nobody() -> None:
    events = volatile_run(rounds=1)
    [merged] = of(events, RoundMerged)
    events[events.index(merged)] = replace(merged, leases=merged.leases[1:])
    figures = figures_of(events)
    first = next(e for e in of(events, UpdateFolded) if e.lease == merged.leases[0])
    assert figures.clients[first.client].tokens == figures.clients[first.client].updates == 0
    assert figures.sum("updates") == len(merged.leases) - 1


def test_client_up_time_and_rows_by_hand() -> None:
    events = volatile_run(rounds=1)
    figures = figures_of(events)
    [crash] = of(events, ClientDown)
    assert figures.clients[crash.client].up_seconds(figures.t) == pytest.approx(crash.t)
    assert figures.clients["site-0"].up_seconds(figures.t) == pytest.approx(events[-1].t)
    assert figures.clients["site-0"].rows == 25 * 1024 // ROW_TOKENS
    assert rows_before(((4, 100, 6), (10, 0, 20)), row=13) == 5
    assert rows_before(((4, 100, 6), (10, 0, 20)), row=5) == 1


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert('x')</script>"
    events = volatile_run(rounds=3, clients=("site-0", nasty))
    write_run(tmp_path, events, config=f"name: {nasty}\nnote: </pre>{nasty}\n", versions={nasty: nasty})
    page = page_of(tmp_path)
    assert len(page.texts("script")) == 1
    assert page.texts("h1") == [f"{nasty} completed"]
    assert f"</pre>{nasty}" in page.texts("pre")[0]
    assert nasty in page.texts("text", class_="client")


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    text = write_report(write_run(tmp_path, volatile_run(rounds=3))).read_text(encoding="utf-8")
    assert "://" not in text
    assert not [a for _, a, _ in Page(text).elements if "src" in a or "href" in a]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.yaml", "events.jsonl", "report.html", "summary.json",
    ]  # fmt: skip


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, volatile_run(rounds=3), goodput=None, rows=None, weights_sha256=None, val_bpb=None)
    page = page_of(tmp_path)
    found = tiles(page)
    assert found["Goodput"][0] == found["Rows lost / trained twice"][0] == "not measured"
    assert "not measured" in page.texts("footer")[0]
    assert "Rows: not measured." in page.texts("p", class_="empty")


def test_lost_rows_are_shown_in_red(tmp_path: Path) -> None:
    rows = {"total": 100, "done": 60, "leased": 10, "free": 30, "lost": 2, "doubled": 0}
    page = page_of(write_run(tmp_path, volatile_run(rounds=3), rows=rows))
    [bad] = page.texts("div", class_="bad")[:1]
    assert bad.startswith("Rows lost / trained twice 2 / 0")
    widths = [
        a["style"]
        for t, a, _ in page.elements
        if t == "i" and a.get("class") in ("done", "leased", "free") and "style" in a
    ]
    assert widths == ["width:60.000%", "width:10.000%", "width:30.000%"]


def test_rows_that_are_trained_in_part_are_told(tmp_path: Path) -> None:
    rows = {"total": 30, "done": 0, "leased": 0, "free": 30, "partly": 2, "lost": 0, "doubled": 0}
    told = dict(summary_lines({"rows": rows}))["rows of training data"]
    assert told == "30: 0 trained whole, 2 in part, 0 leased to clients, 28 left"
    page = page_of(write_run(tmp_path, volatile_run(rounds=3), rows=rows))
    assert "of these, trained in part2" in " ".join(page.texts("section", id="ledger"))
    told = dict(summary_lines({"rows": {**rows, "partly": 0}}))["rows of training data"]
    assert told == "30: 0 trained, 0 leased to clients, 30 left"


def test_a_run_without_rounds_speaks_of_merges(tmp_path: Path) -> None:
    first, *rest = volatile_run(rounds=20)
    assert isinstance(first, RunStarted)
    page = page_of(write_run(tmp_path, [replace(first, unit="merge", rounds=0), *rest]))
    assert {"Tokens per merge", "Updates per merge"} <= set(page.texts("figcaption"))
    assert "Merges" in page.texts("h2")
    assert tiles(page)["Virtual time"][1] == "20 merges"
    work = [label for label in page.texts("title") if "merged, all steps" in label]
    assert work and all(label.startswith("given out before merge ") for label in work)
    assert not [text for _, _, texts in page.elements for text in texts if "round " in text]


def test_a_centralized_run_has_curves_but_no_timeline(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path, centralized_run(6)))
    assert page.texts("section", id="timeline") == page.texts("section", id="clients") == []
    assert len(page.texts("path", class_="line")) == 4
    assert page.texts("figcaption")[2:] == ["Tokens per round"]


def test_a_run_interrupted_before_its_first_round(tmp_path: Path) -> None:
    events = [e for e in volatile_run(rounds=3) if e.t == 0.0 and not isinstance(e, Evaluated)]
    page = page_of(write_run(tmp_path, events, status="interrupted"))
    assert page.texts("span", id="status") == ["interrupted"]
    assert "Not measured." in page.texts("p", class_="empty")
    assert "the 0 rounds that ended" in page.texts("p", class_="notice")[0]


def test_a_run_killed_while_writing_is_reported_from_its_events(tmp_path: Path) -> None:
    events = [e for e in volatile_run(rounds=5) if not isinstance(e, RunEnded)]
    write_run(tmp_path, events)
    (tmp_path / "summary.json").unlink()
    with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as event_log:
        event_log.write('{"event": "RoundMerg')
    page = page_of(tmp_path)
    assert page.texts("span", id="status") == ["unfinished"]
    assert "torn" in page.texts("p", class_="notice")[0]
    assert tiles(page)["Tokens trained"][0] == units.count(of(events, RoundMerged)[-1].tokens_total)


def test_a_summary_that_disagrees_with_the_event_log_is_noticed(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path, volatile_run(rounds=3), tape_sha256="0" * 64, tokens=5))
    first, second = page.texts("p", class_="notice")
    assert "does not match" in first
    assert "says 5 tokens" in second


def test_a_run_whose_model_diverged_says_so(tmp_path: Path) -> None:
    events = [
        replace(e, val_loss=math.nan, val_bpb=math.nan) if isinstance(e, Evaluated) and e.round else e
        for e in volatile_run(rounds=5)
    ]
    folder = write_run(tmp_path, events)
    recorded = folder / "summary.json"
    recorded.write_text(json.dumps(json.loads(recorded.read_text()) | {"val_bpb": None}))
    for _ in ("with its summary", "without one, as of a run that was killed"):
        text = write_report(folder).read_text()
        assert "The model has diverged: its last validation loss is not finite." in text
        assert ">diverged<" in text.replace("\n", "").replace(" ", "")
        recorded.unlink(missing_ok=True)


def test_a_diverged_run_draws_what_is_finite(tmp_path: Path) -> None:
    events = [
        replace(e, train_loss=math.nan) if isinstance(e, RoundMerged) and e.round == 1 else e
        for e in volatile_run(rounds=5)
    ]
    page = page_of(write_run(tmp_path, events))
    assert "Points left out because they are not finite: 1." in page.texts("p", class_="empty")
    assert "nan" not in "".join(a["d"] or "" for t, a, _ in page.elements if t == "path")


def test_thousands_of_events_stay_a_small_page(tmp_path: Path) -> None:
    path = write_report(write_run(tmp_path, volatile_run(rounds=1000)))
    assert path.stat().st_size < 1_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.texts("circle")) <= 4 * svg.MAX_POINTS
    assert len(page.texts("rect", class_="bar")) <= 2 * svg.MAX_BARS


def test_thinning_keeps_the_ends_and_the_spike() -> None:
    points = [(float(k), 1.0 + 0.001 * (k % 7), "") for k in range(10_000)]
    points[5003] = (5003.0, 50.0, "spike")
    thinned = svg.thin(points, 100)
    assert len(thinned) <= 100
    assert thinned[0] == points[0]
    assert thinned[-1] == points[-1]
    assert points[5003] in thinned
    assert [p[0] for p in thinned] == sorted(p[0] for p in thinned)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (1.1, 3.1, [1.5, 2.0, 2.5, 3.0]),
        (5, 5, [5]),
        (0, 1e6, [0, 2e5, 4e5, 6e5, 8e5, 1e6]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_time_ticks_fall_on_whole_units() -> None:
    assert [svg.time_label(t) for t in svg.time_ticks(0, 4000)] == ["0", "15m", "30m", "45m", "1h"]
    assert [svg.time_label(t) for t in svg.time_ticks(0, 9000)] == [
        "0",
        "30m",
        "1h",
        "1h 30m",
        "2h",
        "2h 30m",
    ]
    assert [svg.time_label(t) for t in svg.time_ticks(0, 400_000)] == ["0", "1d", "2d", "3d", "4d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.count(9999), "9,999"), (units.count(12_345), "12.3k"), (units.count(999_960), "1.00M"),
        (units.count(None), "not measured"), (units.count(math.nan), "not measured"),
        (units.size(999), "999 B"), (units.size(12_345_678), "12.3 MB"), (units.size(999_960), "1.00 MB"),
        (units.duration(0.0), "0 s"), (units.duration(59.97), "1m 00s"), (units.duration(3599.7), "1h 00m"),
        (units.duration(86_399), "1d 00h"), (units.signed_percent(4.0, 3.0), "−25.0 %"),
        (units.short(1_500_000), "1.5M"), (units.moment(75), "1m 15s"), (units.moment(3599.7), "1h 00m 00s"),
        (units.moment(200_000), "2d 07h 33m 20s"), (units.share(0.095, "14.5 kg"), "9.5 % of 14.5 kg"),
        (units.share(1.994, "1 g"), "199.4 % of 1 g"), (units.share(2.0, "1 g"), "2.00 times 1 g"),
        (units.share(15.235, "95 mg"), "15.2 times 95 mg"), (units.share(12_345.6, "1 mg"), "12,346 times 1 mg"),
    ],
)  # fmt: skip
def test_figures_read_well(text: str, expected: str) -> None:
    assert text == expected


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fednano.report", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_rewrites_the_report_and_prints_its_path(tmp_path: Path) -> None:
    write_run(tmp_path, volatile_run(rounds=2))
    done = _command(str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "report.html"))


def test_the_command_names_a_folder_without_a_run(tmp_path: Path) -> None:
    done = _command(str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_names_a_line_that_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"event": "Unheard", "t": 0}\n')
    done = _command(str(tmp_path))
    assert done.returncode == 2
    assert "line 1" in done.stderr
    assert "Traceback" not in done.stderr


class _Spy:
    def __init__(self, fails: bool = False) -> None:
        self.heard: list[str] = []
        self.fails = fails

    def event(self, event: Event) -> None:
        self.heard.append("event")
        if self.fails:
            raise OSError("disk full")

    def step(self, step: InnerStep) -> None:
        self.heard.append(f"step {step.client} {step.round} {step.step}/{step.steps} {step.loss} {step.tokens}")

    def close(self, summary: dict[str, Any]) -> None:
        self.heard.append("close")
        if self.fails:
            raise OSError("disk full")


def test_a_failing_sink_is_heard_and_the_others_are_still_closed() -> None:
    before, broken, after = _Spy(), _Spy(fails=True), _Spy()
    fan = Fanout([before, broken, after])
    fan.step(step_of("site-0", 1, 2, 25, 3.5, 1024))
    with pytest.raises(OSError, match="disk full"):
        fan.event(volatile_run(1)[0])
    with pytest.raises(OSError, match="disk full"):
        fan.close({})
    assert before.heard == ["step site-0 1 2/25 3.5 1024", "event", "close"]
    assert after.heard == ["step site-0 1 2/25 3.5 1024", "close"]


def test_a_report_hears_all_that_it_draws() -> None:
    everything, drawn = History(), History()
    for event in volatile_run(20):
        everything.draw(event)
        if isinstance(event, LiveReport.hears):
            drawn.draw(event)
    assert drawn == everything


def test_the_local_logger_adds_nothing(tmp_path: Path) -> None:
    assert Local().open(tmp_path, {}, dict) == []


def test_the_event_log_of_the_tests_is_deterministic() -> None:
    assert volatile_run(6) == volatile_run(6)
    assert isinstance(volatile_run(6)[0], RunStarted)
