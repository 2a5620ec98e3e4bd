"""Replay of a run's own event log: a virtual run predicts itself."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fednano import fidelity
from fednano.config.compose import compose_config
from fednano.core.event_log import read_log
from fednano.core.events import (
    ChaosEnacted,
    ClientDown,
    ClientUp,
    RoundMerged,
    RoundStarted,
    UpdateFolded,
    WorkDispatched,
)
from fednano.fidelity import compare, main
from fednano.report.measured import Measured, measure

Run = Callable[..., dict[str, Any]]
VOLATILE = ("volatility.exit=drain", "rounds=8", "runtime.compute=analytic", "network=dsl")


@pytest.fixture
def volatile(run: Run, tiny: list[str]) -> Path:
    """The folder of a run whose clients come and go."""
    return recorded(run, tiny, *VOLATILE)


def recorded(run: Run, tiny: list[str], *words: str) -> Path:
    """The folder of a run, with the configuration that a user's run leaves."""
    folder: Path = run(*words)["folder"]
    cfg = compose_config([*tiny, *words])
    OmegaConf.save(
        OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k not in ("hydra", "resume")]), folder / "config.yaml"
    )
    return folder


def test_the_figures_of_a_event_log(volatile: Path) -> None:
    measured = measure(read_log(volatile / "events.jsonl"))
    assert measured.step_s == pytest.approx(dict.fromkeys(measured.step_s, 1.0))
    assert len(measured.rounds) == 8
    assert any(len(windows) > 1 for windows in measured.windows.values())


def started(t: float, round_: int) -> RoundStarted:
    return RoundStarted(t=t, round=round_, version=round_, clients=())


def sent(t: float, round_: int, client: str, lease: int) -> WorkDispatched:
    return WorkDispatched(t=t, round=round_, client=client, lease=lease, version=round_, steps=4, bytes=0)


def folded(
    t: float, round_: int, client: str, lease: int, busy: tuple[float, float], drained: bool = False
) -> UpdateFolded:
    return UpdateFolded(
        t=t, round=round_, client=client, lease=lease, version=round_, steps=4, tokens=40, row=1, token=0, weight=1.0,
        norm=1.0, train_loss=1.0, drained=drained, bytes=0, busy_from=busy[0], busy_until=busy[1],
    )  # fmt: skip


def merged(t: float, round_: int, *leases: int) -> RoundMerged:
    return RoundMerged(
        t=t, round=round_, version=round_ + 1, leases=leases, steps=4 * len(leases), tokens=40, tokens_total=40,
        norm=1.0, train_loss=1.0, lr_scale=1.0,
    )  # fmt: skip


def struck(t: float, client: str, action: str) -> ChaosEnacted:
    return ChaosEnacted(t=t, client=client, action=action, value=1.0)


def up(t: float, client: str) -> ClientUp:
    return ClientUp(t=t, client=client)


def down(t: float, client: str) -> ClientDown:
    return ClientDown(t=t, client=client, exit="drain")


def test_who_drained_was_there_until_its_submit_and_who_was_struck_crashed() -> None:
    measured = measure(
        [
            up(1.0, "a"), up(1.0, "b"), up(1.0, "c"),
            started(2.0, 0), sent(3.0, 0, "a", 1), sent(5.0, 0, "b", 2), struck(10.0, "a", "drain"),
            folded(14.0, 0, "a", 1, (4.0, 12.0), drained=True), folded(16.0, 0, "b", 2, (6.0, 14.0)),
            merged(17.0, 0, 1, 2), down(18.0, "a"), struck(18.5, "b", "kill"), down(20.0, "b"),
            started(21.0, 1), up(25.0, "b"), sent(26.0, 1, "b", 3), folded(35.0, 1, "b", 3, (30.0, 34.0)),
            merged(35.5, 1, 3), down(36.0, "b"),
        ]
    )  # fmt: skip
    assert measured.windows == {
        "a": ((1.0, 14.0 + 2.0 / 2, "drain"),),
        "b": ((1.0, 20.0, "crash"), (25.0, 36.0, "drain")),
        "c": ((1.0, math.inf, "drain"),),
    }
    # From when the round began or the client came, not from when the server got to it.
    assert measured.down_s == {"a": 2.0, "b": (4.0 + 5.0) / 2}
    assert measured.up_s == {"a": 2.0, "b": 1.5}
    assert measured.step_s == {"a": 2.0, "b": 1.5}
    assert (measured.between_s, measured.rounds, measured.begins, measured.ends) == (4.0, (15.0, 14.5), 2.0, 35.5)
    assert measured.steps == {"a": 4, "b": 8}


def test_waiting_for_somebody_is_no_pause_of_the_server() -> None:
    measured = measure(
        [
            up(0.0, "a"),
            *(started(0.0, 0), sent(0.0, 0, "a", 1), folded(9.0, 0, "a", 1, (1.0, 9.0)), merged(9.0, 0, 1)),
            *(started(11.0, 1), sent(11.0, 1, "a", 2), folded(20.0, 1, "a", 2, (12.0, 20.0), drained=True)),
            *(merged(20.0, 1, 2), down(25.0, "a"), up(50.0, "a")),
            *(started(60.0, 2), sent(60.0, 2, "a", 3), folded(69.0, 2, "a", 3, (61.0, 69.0)), merged(69.0, 2, 3)),
            *(started(73.0, 3), sent(73.0, 3, "a", 4)),
        ]
    )
    assert measured.between_s == 3.0


def test_a_centralized_run_has_nothing_to_replay() -> None:
    with pytest.raises(ValueError, match=r"no work was given out; there is nothing to replay"):
        measure([folded(9.0, 0, "central", 1, (0.0, 9.0)), merged(9.0, 0, 1)])


def test_a_virtual_run_predicts_itself(volatile: Path, capsys) -> None:
    assert main([str(volatile), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: row["off"] for name, row in found.items()} == pytest.approx(dict.fromkeys(found, 0.0), abs=0.02)
    before = sorted(volatile.rglob("*"))
    assert main([str(volatile)]) == 0
    assert "goodput" in capsys.readouterr().out
    assert sorted(volatile.rglob("*")) == before


@pytest.mark.parametrize("strategy", ["fedbuff", "streaming_diloco", "decoupled_diloco"])
def test_a_run_with_other_rounds_predicts_itself(run: Run, tiny: list[str], strategy: str) -> None:
    words = (
        "volatility.mean_up_s=1e6",
        "network=dsl",
        "rounds=16",
        "runtime.compute=analytic",
        "optim.state=keep",
        f"strategy={strategy}",
    )
    folder = recorded(run, tiny, *words)
    found = compare(folder)
    assert {name: row["off"] for name, row in found.items()} == pytest.approx(dict.fromkeys(found, 0.0), abs=0.02)
    assert ("mean round, s" if strategy == "streaming_diloco" else "mean merge, s") in found


def test_a_prediction_that_is_off_is_told_by_the_exit_code(
    volatile: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def slower(folder: Path, measured: Measured) -> Measured:
        return replace(measured, rounds=tuple(1.2 * seconds for seconds in measured.rounds))

    monkeypatch.setattr(fidelity, "replay", slower)
    assert compare(volatile)["mean round, s"]["off"] == pytest.approx(0.2, abs=0.01)
    assert main([str(volatile)]) == 1
    assert main([str(volatile), "--within", "0.3"]) == 0


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must hold events.jsonl, got .*; name the folder of a run"):
        compare(tmp_path)
