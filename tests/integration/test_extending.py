"""A user's folder outside the package: strategies, a codec, a profile, a data set, tasks and an experiment."""

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.markdown import blocks
from support.paths import REPOSITORY
from support.runs import StopsAfter, assert_same

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core import tensors
from fednano.core.progress import Silent
from fednano.core.tensors import State
from fednano.experiment.experiment import Experiment
from fednano.runtime.run_folder import run_in_folder
from fednano.runtime.session import Outcome
from fednano.strategy.base import Accumulator, ServerState, Update
from fednano.strategy.mean import WeightedMean
from fednano.strategy.outer.nesterov import Nesterov
from fednano.strategy.synchronous import Synchronous

Run = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]

EXTENDING = REPOSITORY / "docs" / "extending"
TINY = ("tokenizer.vocab_size=300", "model.sequence_len=16", "batch_size=2", "eval_tokens=256", "rounds=3",
        "strategy.local_steps=4", "hardware.threads=1", "hardware.tokens_per_s=[32]", "network=datacenter")  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The folder of docs/extending.md, as on a user's machine."""
    return Path(shutil.copytree(EXTENDING, tmp_path / "project"))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """For runs in this process: the override that --config-dir makes, with `mine` importable and allowed."""
    monkeypatch.syspath_prepend(str(EXTENDING))
    monkeypatch.setenv("FEDNANO_ALLOW_MODULES", "mine,support")
    return f"hydra.searchpath=['file://{EXTENDING / 'conf'}']"


def ran(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_experiment_of_ones_own_runs_and_its_model_is_evaluated(command: Command, mine: Path) -> None:
    words = ("--config-dir", "conf", f"data.root={mine / 'corpora'}")
    nightly = ("experiment=nightly", *TINY, "volatility.speedup=6000", "hydra.run.dir=run")
    ran(command("run", *words, *nightly, cwd=mine))
    summary = json.loads((mine / "run" / "summary.json").read_text())
    assert (summary["status"], summary["strategy"]) == ("completed", "geometric")
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == 0
    assert summary["val_bpb"] < summary["val_bpb_initial"]
    # A bit for each number and a few means, against 32 bits for each number of as many tasks or more.
    assert 0 < summary["bytes"]["up"] < 0.05 * summary["bytes"]["down"]
    (started,) = [line for line in (mine / "run" / "events.jsonl").read_text().splitlines() if "RunStarted" in line]
    assert json.loads(started)["volatility"] == "night"
    (manifest,) = (mine / "corpora").glob("manual-*/manifest.json")
    assert json.loads(manifest.read_text())["name"] == "manual"
    shown = ran(command("evaluate", "--config-dir", "conf", "model_dir=run/model", "tasks=brackets", cwd=mine))
    assert "brackets" in shown
    record = json.loads((mine / "run" / "evaluation.json").read_text())
    assert record["tasks"]["brackets"]["items"] == 9


def test_the_readmes_strategy_runs(command: Command, mine: Path) -> None:
    """The README shows the folder's commands and files."""
    readme = (REPOSITORY / "README.md").read_text()
    shown = readme.partition("## Your own strategy")[2].partition("\n## ")[0]
    for path, language in (("mine/geometric.py", "python"), ("conf/strategy/geometric.yaml", "yaml")):
        block = shown.partition(f"```{language}\n")[2].partition("```")[0]
        assert block.strip() and block.strip() in (mine / path).read_text(), path
    words = "--config-dir conf strategy=geometric"
    assert f"python -m fednano.run {words}" in shown
    ran(command("run", *words.split(), *TINY, "data=manual", f"data.root={mine / 'corpora'}", cwd=mine))


def test_an_outer_optimizer_and_a_partition_of_ones_own_run_as_the_page_shows_them(
    command: Command, mine: Path
) -> None:
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    for block, path in zip(blocks(page, "python"), ("mine/capped.py", "mine/uneven.py"), strict=True):
        assert textwrap.indent(block, "    ") in (mine / path).read_text(), path
    words = ("strategy/outer=capped", "strategy.outer.cap=1.5", "partition=uneven", "partition.ratio=3")
    assert all(f"--config-dir conf {' '.join(pair)}" in page for pair in (words[:2], words[2:]))
    corpus = ("data=manual", f"data.root={mine / 'corpora'}")
    ran(command("run", "--config-dir", "conf", *words, *TINY, *corpus, "hydra.run.dir=run", cwd=mine))
    summary = json.loads((mine / "run" / "summary.json").read_text())
    assert (summary["status"], summary["strategy"]) == ("completed", "diloco")
    assert summary["val_bpb"] < summary["val_bpb_initial"]


def test_the_capped_step_is_nesterovs_up_to_its_cap(own: str) -> None:
    from mine.capped import Capped

    weights = {"w": torch.tensor([1.0, 2.0])}
    capped, free = Capped(lr=0.7, momentum=0.9, cap=1.5), Nesterov(lr=0.7, momentum=0.9)
    ours, theirs, longer = (weights, State()), (weights, State()), 0
    wide = Capped(lr=0.7, momentum=0.9, cap=100.0)
    for delta in ({"w": torch.tensor([0.1, -0.2])}, {"w": torch.tensor([0.1, 0.1])}):
        before = ours[0]["w"]
        state = wide.step(*theirs, delta)
        theirs = free.step(*theirs, delta)
        assert torch.allclose(state[0]["w"], theirs[0]["w"])
        ours = capped.step(*ours, delta)
        assert (before - ours[0]["w"]).norm() <= 0.7 * 1.5 * delta["w"].norm() * (1 + 1e-6)
        longer += not torch.allclose(ours[0]["w"], theirs[0]["w"])
    assert longer
    assert capped.step({}, {}, {}) == ({}, {})


def test_the_uneven_partition_deals_every_row_once(own: str) -> None:
    from mine.uneven import Uneven

    pools = Uneven(ratio=2.0).deal(np.zeros(703, np.int64), 1, 3, -1)
    assert [len(rows) for rows in pools.rows] == [401, 201, 101]
    assert sorted(np.concatenate(pools.rows).tolist()) == list(range(703))
    assert all((np.diff(rows) > 0).all() for rows in pools.rows)
    assert [len(rows) for rows in Uneven(ratio=100).deal(np.zeros(3, np.int64), 1, 3, 0).rows] == [1, 1, 1]


def test_what_cannot_be_imported_is_named(command: Command, mine: Path) -> None:
    done = command("run", "--config-dir", str(mine / "conf"), "strategy=geometric", cwd=mine.parent)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "fednano: strategy.merging._target_=mine.geometric.GeometricMedian cannot be imported"
    )
    assert "PYTHONPATH" in done.stderr
    assert not (mine.parent / "outputs").exists()
    done = command("run", "--config-dir", "conf", "volatility=night", "volatility.begins_h=3", cwd=mine)
    assert (done.returncode, done.stderr) == (
        2,
        "fednano: volatility.begins_h must be later in the day than volatility.ends_h, got 3 and 6; try 22 and 6\n",
    )
    done = command("run", "--config-dir", "nowhere", cwd=mine)
    assert (done.returncode, done.stderr) == (
        2,
        "fednano: --config-dir must be a folder, got nowhere; give the folder that holds your YAML files\n",
    )


def test_mistakes_in_yaml_files_are_named(command: Command, mine: Path) -> None:
    def refused(*words: str) -> str:
        done = command("run", "--config-dir", "conf", *words, cwd=mine)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        return line

    choices = mine / "conf" / "strategy"
    (choices / "void.yaml").touch()
    assert refused("strategy=void", "strategy.local_steps=4").endswith(
        "strategy.local_steps=4 sets a key that does not exist; the chosen YAML file of strategy is empty, so write "
        "strategy's keys there"
    )
    (choices / "based.yaml").write_text("defaults: [dilco, _self_]\n")
    assert refused("strategy=based").startswith(
        "fednano: strategy/based.yaml begins with strategy=dilco, which does not exist; use one of "
    )
    (mine / "mine" / "signed.py").write_text("class Signed:\n    def __init__(self, lr: float) -> None: ...\n")
    (choices / "signed.yaml").write_text("defaults: [diloco, _self_]\nouter: {_target_: mine.signed.Signed, lr: 0.1}\n")
    assert refused("strategy=signed") == (
        "fednano: strategy.outer.momentum=0.5 sets a key that Signed does not have; use one of lr; if it comes from "
        "the file that yours begins with, put Signed into a file of its own, strategy/outer/NAME.yaml, and choose "
        "strategy/outer=NAME"
    )
    (mine / "mine" / "signed.py").write_text("class Signed\n")
    assert refused("strategy=signed").endswith("signed.py, line 1, is no Python (expected ':'); correct the file")


def test_mistakes_in_windows_and_steps_are_named(command: Command, mine: Path) -> None:
    night, capped = mine / "mine" / "night.py", mine / "mine" / "capped.py"
    night.write_text(night.read_text().replace("start), stop,", "start), stop + 60,"))
    capped.write_text(
        capped.read_text().replace("stepped, momenta =", "next(iter(delta.values()))\n        stepped, momenta =")
    )
    corpus = ("data=manual", f"data.root={mine / 'corpora'}")
    words = ("run", "--config-dir", "conf", *corpus, *TINY, "hydra.run.dir=out")
    done = command(*words, "volatility=night", "volatility.speedup=1000", "rounds=50", cwd=mine)
    assert done.returncode == 2
    assert "status" not in done.stdout  # nothing has begun
    assert done.stderr == (
        "fednano: volatility must give windows in order of time, none of them empty and none before the end of the "
        "one before it, got 79.2 to 168 s after one that ends at 81.6 s for client_0 of Night; correct its windows\n"
    )
    assert not (mine / "out").exists()
    done = command(*words, "strategy/outer=capped", cwd=mine)
    assert done.returncode == 1
    assert "StopIteration\nThis was before the run, while its rounds were played through without a model" in done.stderr


def test_the_geometric_median_all_but_ignores_a_broken_client(own: str) -> None:
    from mine.geometric import GeometricMedian

    median = GeometricMedian(iterations=50).accumulator({"w": torch.zeros(2)})
    for i, values in enumerate(([1.0, 2.0], [1.0, 2.0], [1e6, -1e6])):
        update = Update(client=f"client_{i}", tokens=1, steps=1, version=0, staleness=0)
        median.add({"w": torch.tensor(values)}, 1.0, update)
    assert torch.allclose(median.result()["w"], torch.tensor([1.0, 2.0]), atol=1e-3)


def test_what_signs_leave_out_joins_the_next_update(own: str) -> None:
    from mine.sign import Sign

    codec, kept = Sign(group=8), {}
    draw = torch.Generator().manual_seed(3)
    updates = [{"a": torch.randn(3, 5, generator=draw), "b": torch.randn(4, generator=draw)} for _ in range(9)]
    shapes = tensors.shapes(updates[0])
    sent = []
    for update in updates:
        data, kept = codec.encode(update, kept, 0)
        assert len(data) == codec.size(shapes) == (2 * 4 + 2) + (4 + 1)
        sent.append(codec.decode(data, shapes))
    for name in shapes:
        total = torch.stack([update[name] for update in updates]).sum(0)
        assert torch.allclose(torch.stack([each[name] for each in sent]).sum(0) + kept[name], total, atol=1e-5)
        assert sent[0][name].abs().unique().numel() == {"a": 2, "b": 1}[name]
    with pytest.raises(ValueError, match="take 15 bytes, but 16 came"):
        codec.decode(data + b"\0", shapes)


def test_a_large_penalty_holds_clients_back(own: str, run: Run) -> None:
    steady = (own, *STEADY)
    plain = run(*steady, "strategy=fedavg", "strategy.local_steps=4", folder="plain")
    weak = run(*steady, "strategy=feddyn", "strategy.client.alpha=1e-12", folder="weak")
    strong = run(*steady, "strategy=feddyn", "strategy.client.alpha=100", folder="strong")
    assert norms(weak)[0] == pytest.approx(norms(plain)[0], rel=1e-4)
    assert norms(strong)[0] < 0.9 * norms(plain)[0]


def test_feddyn_finds_the_optimum_of_all_data_where_fedavg_does_not(own: str) -> None:
    """Two clients with the losses c/2 (θ − a)², each minimised within a round: together they want θ = 2.5."""
    from mine.dynamic import Corrected, Dynamic

    clients, part, server = ((3.0, 2.0), (1.0, 4.0)), Dynamic(alpha=1.0), Corrected()
    theta, outer, kept = {"w": torch.zeros(1)}, {}, [{}, {}]
    for _ in range(60):
        moved = []
        for i, (c, a) in enumerate(clients):
            rule, w = part.begin(theta, kept[i], "a", 1), torch.nn.Parameter(theta["w"].clone())
            for _ in range(60):
                w.grad = c * (w.detach() - a)
                rule.gradients({"w": w})
                w.data -= 0.2 * w.grad
            moved.append(rule.update(tensors.subtract(theta, {"w": w}), 60)["w"])
            kept[i] = rule.kept
        theta, outer = server.step(theta, outer, {"w": torch.stack(moved).mean(0)})
    assert theta["w"].item() == pytest.approx(2.5, abs=1e-3)  # fedavg: 3.0, the mean of 2 and 4


def test_feddyns_clients_keep_what_they_learned(own: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (own, *STEADY, "strategy=feddyn", "rounds=2")
    whole = run(*options)
    monkeypatch.setattr("fednano.training.client_memory.ClientMemory.keep", lambda *_: None)
    assert run(*options, folder="forgetful")["weights_sha256"] != whole["weights_sha256"]


def norms(summary: dict[str, Any]) -> list[float]:
    """The norms of a run's pseudo-gradients."""
    lines = (summary["folder"] / "events.jsonl").read_text().splitlines()
    return [event["norm"] for event in map(json.loads, lines) if event["event"] == "RoundMerged"]


STEADY = ("clients=2", "volatility.mean_up_s=100000")
KEEPING = ("codec=sign", "strategy._target_=support.carrying.Carrying", "strategy.name=carrying")
CHURN = ("clients=3", "volatility.crash_share=0.5", "rounds=6", "checkpoint_every=2", "eval_every=3")


@pytest.mark.parametrize("checks", [7, 23])
def test_what_clients_keep_is_saved_and_restored(own: str, run: Run, checks: int) -> None:
    options = (own, *KEEPING, *CHURN)
    whole = run(*options)
    folder = f"after_{checks}"
    assert run(*options, store=StopsAfter(checks), folder=folder)["status"] == "interrupted"
    assert_same(run(*options, folder=folder, resume=True), whole)


def test_forgetting_what_clients_keep_would_show(own: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (own, *KEEPING, *CHURN)
    whole = run(*options)
    monkeypatch.setattr("fednano.training.client_memory.ClientMemory.restore", lambda *_: None)
    run(*options, store=StopsAfter(23), folder="stopped")
    assert run(*options, folder="stopped", resume=True)["weights_sha256"] != whole["weights_sha256"]


@pytest.mark.slow
def test_worker_processes_keep_the_same(own: str, run: Run) -> None:
    options = (own, *KEEPING, *CHURN)
    whole = run(*options)
    workers = (*options, "hardware.workers=2")
    assert run(*workers, store=StopsAfter(23), folder="stopped")["status"] == "interrupted"
    assert_same(run(*workers, folder="stopped", resume=True), whole)


def test_a_crash_takes_what_a_client_kept(own: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (own, *KEEPING, *CHURN, "volatility.exit=crash")
    whole = run(*options)
    monkeypatch.setattr("fednano.training.client_memory.ClientMemory.forget", lambda *_: None)
    assert run(*options, folder="immortal")["weights_sha256"] != whole["weights_sha256"]


def test_a_lossy_codec_leaves_weights_alone(own: str, run: Run) -> None:
    """Weights on the way down lose nothing: a run whose groups are single numbers ends like one without a codec."""
    options = (own, *STEADY)
    whole = run(*options, folder="fp32")
    assert run(*options, "codec=sign", "codec.group=1", folder="sign")["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("codec@download=sign",),
            "codec@download must keep nothing between messages, got sign, which keeps a residual",
        ),
        (("codec=sign", "round.elastic=true"), "round.alone_merge=adopt needs a lossless codec, got codec=sign; use "),
        (("strategy=feddyn", "round.overlap=2"), "round.overlap must be 0 with strategy=feddyn, got 2"),
        (("strategy=feddyn", "strategy.client.alpha=-1"), "strategy.client.alpha must be above 0, got -1"),
    ],
)
def test_choices_that_do_not_suit_each_other(own: str, run: Run, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(own, *words)


class Halves(Synchronous):
    """A strategy whose accumulator loses half of each tensor."""

    def accumulator(self, state: ServerState) -> Accumulator:
        class Half(WeightedMean):
            def result(self) -> State:
                return {name: tensor[: len(tensor) // 2] for name, tensor in super().result().items()}

        return Half(state.weights)


class Doubles(Synchronous):
    """A strategy whose weights become float64."""

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        return replace(state, weights={name: tensor.double() for name, tensor in state.weights.items()})


class Forgetful(Synchronous):
    """A strategy that returns nothing."""

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        return None  # type: ignore[return-value]


class Weightless(Synchronous):
    """A strategy that gives updates no weight."""

    def weight(self, update: Update) -> float:
        return 0.0


def test_what_a_strategy_returns_is_checked(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNANO_ALLOW_MODULES", __name__)

    def outcome(name: str) -> Outcome:
        experiment = Experiment(compose_config([*tiny, f"strategy._target_={__name__}.{name}"]))
        parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
        (tmp_path / name).mkdir()
        return run_in_folder(tmp_path / name, "test", experiment.runtime, parts, experiment.groups.logger, {"name": ""})

    halves = outcome("Halves")
    assert halves.status == "failed"
    assert str(halves.error).startswith(
        "the result of Halves's accumulator must be tensors like those of the global model, got"
    )
    assert not (tmp_path / "Halves" / "model").exists()  # nothing was trained
    doubles = outcome("Doubles")
    assert re.match(
        r"the weights that Doubles\.merge with Nesterov returns must be tensors like those of the global model, got "
        r"float64 \(.*\) for \S+ of float32 \(.*\); correct it",
        str(doubles.error),
    )
    with pytest.raises(
        ValueError, match=r"^Forgetful\.merge with Nesterov must return a ServerState, got NoneType; correct it"
    ):
        outcome("Forgetful")
    with pytest.raises(ValueError, match=r"that Weightless gives an update must be > 0 and finite, got 0\.0; correct"):
        outcome("Weightless")
