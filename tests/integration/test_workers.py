"""Clients that train in parallel in worker processes: the same bits, and nothing left behind."""

import json
import multiprocessing
import os
import pickle
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import StopsAfter, assert_same, kill_at, summary_of

from fednano.config.compose import compose_config, conf_dir
from fednano.coordination.memory import MemoryStore
from fednano.core.event_log import read_log
from fednano.core.events import ClientDown, RoundMerged, RoundSkipped, UpdateFolded
from fednano.core.inner_step import InnerStep
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.report.terminal.console import Console
from fednano.runtime.run_folder import run_in_folder
from fednano.runtime.session import Outcome
from fednano.training.checkpoint import Checkpoints
from fednano.training.shared import SharedState

Run = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]

CHURN = ("clients=3", "volatility.crash_share=0.5", "rounds=8", "checkpoint_every=3", "eval_every=2", "eval_tokens=64")
TWO = "hardware.workers=2"


@pytest.fixture(autouse=True)
def leaves_no_process() -> Any:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("policy", "numbers"), [("keep", (2,)), pytest.param("average", (2, 3), marks=pytest.mark.slow)]
)
def test_any_number_of_workers_gives_the_same_bits(run: Run, policy: str, numbers: tuple[int, ...]) -> None:
    options = (*CHURN, f"optim.state={policy}")
    runs = [run(*options, f"hardware.workers={n}", folder=f"with_{n}") for n in (1, *numbers)]
    events = list(read_log(runs[0]["folder"] / "events.jsonl"))
    exits = {e.exit for e in events if isinstance(e, ClientDown)}
    assert exits == {"drain", "crash"}
    assert any(e.drained for e in events if isinstance(e, UpdateFolded))
    for other in runs[1:]:
        assert_same(other, runs[0])
        for checkpoint in ("round_000006", "round_000008"):
            states = [
                Checkpoints.load(summary["folder"] / "checkpoints" / checkpoint).inner for summary in (runs[0], other)
            ]
            assert states[0].keys() == states[1].keys()
            assert states[0]
            for client, state in states[0].items():
                assert {n: t.tolist() for n, t in state.items()} == {
                    n: t.tolist() for n, t in states[1][client].items()
                }


@pytest.mark.parametrize(
    "options",
    [
        ("round=seconds", "round.seconds=6", "round.elastic=true", "volatility.mean_down_s=12"),
        pytest.param(
            (
                "round=tokens",
                "round.tokens=300",
                "partition=source",
                "network=flaky",
                "optim=adamw",
                "optim.state=reset",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_however_rounds_end_the_bits_are_the_same(run: Run, options: tuple[str, ...]) -> None:
    assert_same(run(*CHURN, *options, TWO, folder="two"), run(*CHURN, *options, folder="one"))


def test_what_workers_began_others_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(*CHURN, folder="whole")
    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(Console, "step", lambda self, step: seen.append((step.client, step.round, step.step)))
    stopped = run(*CHURN, TWO, store=StopsAfter(30), folder="stopped")
    assert stopped["status"] == "interrupted"
    assert len(set(seen)) == len(seen) > 8, "steps are shown"
    snapshot = Checkpoints.newest(stopped["folder"] / "checkpoints")
    assert snapshot is not None
    shutil.copytree(stopped["folder"], stopped["folder"].with_name("alone"))
    ends = run(*CHURN, TWO, folder="stopped", resume=True)
    assert_same(ends, whole)
    assert ends["train_s"] > snapshot.train_s > 0
    assert ends["data_s"] > 0
    assert_same(run(*CHURN, folder="alone", resume=True), whole)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are looked for in /proc")
def test_a_killed_run_goes_on_and_leaves_no_worker(command: Command, tiny: list[str], tmp_path: Path) -> None:
    options = [*tiny, "rounds=20", "checkpoint_every=2", "eval_tokens=64"]
    assert command("run", *options, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    seen: list[int] = []

    def fourth_round(event: Any) -> bool:
        if isinstance(event, RoundMerged | RoundSkipped) and event.round == 4:
            seen.extend(workers_of(tmp_path))
        return bool(seen)

    kill_at(tmp_path, [*options, TWO, "hydra.run.dir=killed"], fourth_round)
    assert len(seen) == 2
    for pid in seen:
        await_end(pid)
    ended = command("run", "resume=killed", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_same(summary_of(tmp_path / "killed"), summary_of(tmp_path / "whole"))


def workers_of(folder: Path) -> list[int]:
    """Process ids of the workers of runs started in `folder`, found by their working directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            if b"spawn_main" in command and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def await_end(pid: int) -> None:
    """Return once the process is gone, even if it is not a child of this one."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert poll.poll(60_000), f"worker {pid} goes on without its run"
    finally:
        os.close(watch)


def outcome_of(tiny: list[str], folder: Path, *overrides: str) -> Outcome:
    experiment = Experiment(compose_config([*tiny, *overrides]))
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    folder.mkdir()
    return run_in_folder(folder, "test", experiment.runtime, parts, experiment.groups.logger, {"name": "test"})


def test_a_worker_that_is_killed_fails_the_run_and_leaves_a_checkpoint(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(self: Console, step: InnerStep) -> None:
        if step.client == "client_1" and step.round == 2:
            workers = {process.name: process for process in multiprocessing.active_children()}
            workers["fednano-worker-1"].kill()

    monkeypatch.setattr(Console, "step", kill)
    outcome = outcome_of(tiny, tmp_path / "run", TWO, "volatility.mean_up_s=1e6")
    assert outcome.status == "failed"
    assert str(outcome.error) == "worker 1 of hardware.workers=2 (client_1, client_3) ended by SIGKILL"
    snapshot = Checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert snapshot is not None
    assert (snapshot.progress.rounds, len(snapshot.inner)) == (2, 4)


def test_a_worker_that_fails_says_why(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fednano.runtime.workers import opening, pool

    setups = opening._setups

    def torn(*arguments: Any) -> Any:
        return [replace(setup, source=replace(setup.source, texts=fails)) for setup in setups(*arguments)]

    monkeypatch.setattr(opening, "_setups", torn)
    outcome = outcome_of(tiny, tmp_path / "run", TWO)
    assert outcome.status == "failed"
    assert isinstance(outcome.error, pool.WorkerError)
    assert "shard torn" in str(outcome.error)
    assert "in fails" in "".join(outcome.error.__notes__)


def fails(rows: object) -> None:
    raise OSError("shard torn")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are looked for in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_stops_in_order(tiny: list[str], tmp_path: Path, signum: signal.Signals) -> None:
    options = [*tiny, "rounds=400", TWO, "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fednano.run", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 2/"):
            break
    workers = workers_of(tmp_path)
    assert len(workers) == 2
    os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (128 + signum, "")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert 2 <= summary["rounds"] < 400
    for pid in workers:
        await_end(pid)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("hardware.workers=-1",), "hardware.workers must be >= 0, got -1"),
        (("hardware.workers=5",), "hardware.workers must be <= clients=4, got 5; lower it or add clients"),
        ((TWO, "hardware.threads=2"), "hardware.threads must be 0 or 1 under hardware.workers=2, got 2; use 0 or 1"),
        (("hardware.workers=1.5",), "hardware.workers must be a whole number, got 1.5"),
    ],
)
def test_a_bad_number_of_workers_is_refused(tiny: list[str], overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment(compose_config([*tiny, *overrides]))


def test_workers_and_ranks_exclude_each_other(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"hardware\.workers must be 0 or 1 under the 2 ranks of torchrun.* got 2"):
        Experiment(compose_config([*tiny, TWO]))


def test_what_trains_without_clients_takes_no_notice(run: Run) -> None:
    for options in (("runtime=centralized",), ("runtime.compute=analytic",)):
        assert (
            run(*options, TWO, folder=f"two_{len(options[0])}")["tape_sha256"]
            == (run(*options, folder=f"one_{len(options[0])}")["tape_sha256"])
        )


def test_shared_tensors_are_those_of_the_other_process() -> None:
    like = {"a": torch.zeros(3, 5), "b": torch.zeros((), dtype=torch.float64), "c": torch.zeros(0, 2)}
    shared = SharedState(like)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=double, args=(shared, theirs))
    shared.write({"a": torch.arange(15.0).view(3, 5), "b": torch.tensor(0.1, dtype=torch.float64)})
    process.start()
    shared.close()
    assert ours.recv() == ["a", "b", "c"]
    process.join()
    assert shared.tensors["a"].tolist() == (2 * torch.arange(15.0).view(3, 5)).tolist()
    assert (shared.tensors["b"].item(), shared.tensors["c"].shape) == (0.2, (0, 2))
    with pytest.raises(KeyError):
        shared.write({"d": torch.zeros(1)})


def double(shared: SharedState, pipe: Any) -> None:
    for tensor in shared.tensors.values():
        tensor.mul_(2)
    pipe.send(list(shared.tensors))


@pytest.mark.parametrize("choice", sorted(path.stem for path in (conf_dir() / "volatility").glob("*.yaml")))
def test_every_profile_reaches_a_worker(tiny: list[str], choice: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("client,start,stop\nclient_0,0,50\n")
    (tmp_path / "s.csv").write_text("time,a\n0,1\n3600,5\n")
    files = {
        "intervals": [f"volatility.file={tmp_path / 't.csv'}"],
        "trace": [f"volatility.file={tmp_path / 's.csv'}", "volatility.columns=[a]", "volatility.threshold=3"],
    }
    plain = [option for option in tiny if not option.startswith("volatility")]
    experiment = Experiment(compose_config([*plain, f"volatility={choice}", "energy=none", *files.get(choice, [])]))
    profile = experiment.groups.volatility
    sent = pickle.loads(pickle.dumps(profile))
    for client in ("client_0", "client_1"):
        index = int(client[-1])
        both = (profile.availability(client, index, 7), sent.availability(client, index, 7))
        windows = [[a.upcoming(t) for t in (0.0, 10.0, 40.0)] for a in both]
        assert windows[0] == windows[1]
        speeds = [p.speed(client, index, 7).at(3000.0) for p in (profile, sent)]
        assert speeds[0] == speeds[1]
