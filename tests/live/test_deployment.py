"""Flower's deployment engine: settings, and real processes on this machine."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.deployed import WITHIN_S, Deployed, linux

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core import tensors
from fednano.core.events import ChaosEnacted, ClientDown, LeaseReleased, RoundMerged, UpdateFolded, WorkDispatched
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.report.sinks import Local
from fednano.runtime.deployment.deployment import Deployment
from fednano.runtime.deployment.nodes.provision import Command, Subprocess
from fednano.runtime.deployment.superlink import app_folder, free_port
from fednano.runtime.run_folder import run_in_folder
from fednano.runtime.session import Outcome


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 70000}, r"runtime\.port must be .*, got 70000"),
        ({"transfer_s": 0.0}, r"runtime\.transfer_s must be .*, got 0"),
        ({"transfer_s": float("inf")}, r"runtime\.transfer_s must be .*, got inf"),
        ({"restarts": -1}, r"runtime\.restarts must be >= 0, got -1"),
        ({"local_nodes": -1}, r"runtime\.local_nodes must be >= 0, got -1"),
        ({"min_clients": 0}, r"runtime\.min_clients must be >= 1, got 0"),
        ({"crashes": {"cut": -1.0}}, r"runtime\.crashes\.cut must be .*, got -1"),
        ({"speedup": 0.0}, r"runtime\.speedup must be > 0, got 0"),
        ({"provisioner": "subprocess"}, "got subprocess; use runtime/provisioner=subprocess"),
        ({"chaos": True, "local_nodes": 1}, r"runtime\.local_nodes must be null with chaos, got 1"),
        ({"chaos": True, "provisioner": Subprocess()}, "would both start and end nodes"),
        ({"provisioner": Subprocess(), "local_nodes": 0}, r"local_nodes must be null with .*=subprocess, got 0"),
        ({"provisioner": Command(start=["a"], stop=["b"])}, r"local_nodes must be 0 with .*=command, got None"),
    ],
)
def test_bad_settings_name_their_key(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Deployment(**settings)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["volatility=markov"], "volatility must be none with runtime=deployment, got markov"),
        (["runtime.min_clients=3"], r"runtime.min_clients must be <= clients=2, got 3"),
        (["runtime.local_nodes=1"], r"runtime.local_nodes=1 leaves clients to other machines"),
        (["runtime.local_nodes=1", "runtime.hosts=[host.example.org]"], r"runtime.local_nodes=1 .* coordination=redis"),
        (["coordination=memory"], "coordination.kind must not be memory with runtime=deployment"),
        (
            ["runtime/provisioner=subprocess", "runtime/signal=redis", "volatility=markov"],
            "volatility must be none with runtime=deployment, got markov",
        ),
        (
            [
                "runtime/provisioner=subprocess",
                "runtime/signal=url",
                "runtime.signal.url='https://example.org'",
                "runtime.signal.path=x",
                "runtime.signal.threshold=1",
                "runtime.signal.token_env=NO_SUCH_TOKEN_HERE",
            ],
            "token_env=NO_SUCH_TOKEN_HERE is not set",
        ),
    ],
)
def test_choices_that_do_not_suit_it_are_refused(steady: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        experiment = Experiment(compose_config([*steady, "runtime=deployment", *overrides]))
        experiment.parts(experiment.prepare(Silent()), MemoryStore())


def test_the_bundle_names_apps_that_are_there() -> None:
    import tomllib

    app = tomllib.loads((app_folder() / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    for component in app["components"].values():
        module, _, name = component.partition(":")
        source = (app_folder() / Path(*module.split("."))).with_suffix(".py")
        assert f"{name} = " in source.read_text(encoding="utf-8")
    assert {"folder", "control", "board", "resume"} < set(app["config"])


def test_a_free_port_can_be_listened_on() -> None:
    import socket

    with socket.create_server(("127.0.0.1", free_port())):
        pass


def _virtual(overrides: list[str], folder: Path) -> Outcome:
    """What the virtual clock makes of the same run."""
    experiment = Experiment(compose_config(overrides))
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    (folder / "virtual").mkdir()
    return run_in_folder(folder / "virtual", "test", experiment.runtime, parts, Local(), {"name": "test"})


@linux
@pytest.mark.slow
def test_a_deployment_trains_what_the_virtual_clock_trains(
    deploy: Callable[..., Deployed], steady: list[str], tmp_path: Path
) -> None:
    deployed = deploy()
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary = deployed.summary()
    assert summary["status"] == "completed"
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == 0
    assert summary["audit"]["violations"] == 0
    assert summary["weights_sha256"] == tensors.digest(_virtual(steady, tmp_path).state.weights)
    assert 0.0 < summary["goodput"] <= 1.0
    assert "round 2/2" in deployed.said()
    assert list(Path(deployed.temporary).glob("fednano_*")) == []
    deployed.clear()
    # The store's password is in no file.
    assert not [p for p in deployed.folder.rglob("*") if p.is_file() and b"redis://" in p.read_bytes()]
    config = OmegaConf.load(deployed.folder / "config.yaml")
    assert config.runtime.name == "deployment"


@linux
@pytest.mark.slow
def test_surroundings_do_not_matter(steady: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that does not answer, a TMPDIR too long for sockets, ASCII output, a folder whose name needs quoting.

    The weights are those of the virtual clock all the same, whatever encodes them.
    """
    words = [*steady, "strategy=fedadam", "codec=int4", "codec.error_feedback=true", "codec@download=bf16"]
    for name, value in {
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "all_proxy": "socks5h://127.0.0.1:9",
        "PYTHONIOENCODING": "ascii",
        "FLWR_HOME": "/proc/none",
    }.items():
        monkeypatch.setenv(name, value)
    own, temporary = tmp_path / "a 'b\" \\c\n$x,{ü:#=", tmp_path / ("t" * 90)
    own.mkdir()
    temporary.mkdir()
    deployed = Deployed(words, own / "run", str(temporary))
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary = deployed.summary()
    assert summary["status"] == "completed" and 0.0 < summary["goodput"] <= 1.0
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == summary["audit"]["violations"] == 0
    assert summary["weights_sha256"] == tensors.digest(_virtual(words, tmp_path).state.weights)
    assert "round 2/2" in deployed.said() and "died" not in deployed.said()
    deployed.clear()
    deployed.output.close()
    assert not [p for p in deployed.folder.rglob("*") if p.is_file() and b"redis://" in p.read_bytes()]


@linux
@pytest.mark.slow
def test_a_logger_that_the_server_refuses_is_bad_input(
    deploy: Callable[..., Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "garbage")
    deployed = deploy("logger=wandb", "logger.wandb.mode=online")
    assert deployed.process.wait(WITHIN_S) == 2, deployed.said()
    assert "or set logger.wandb.mode=offline" in deployed.said().splitlines()[-1]
    assert not deployed.folder.exists()
    deployed.clear()


@linux
@pytest.mark.slow
def test_nodes_go_on_while_their_updates_travel(
    deploy: Callable[..., Deployed], steady: list[str], tmp_path: Path
) -> None:
    """All steps are taken, since a message takes seconds through Flower and two steps take milliseconds."""
    overlapped = ["round.overlap=2", "rounds=3", "network.latency_s=5"]
    deployed = deploy(*overlapped)
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary, updates = deployed.summary(), deployed.of(UpdateFolded)
    assert summary["audit"]["violations"] == summary["rows"]["lost"] == summary["rows"]["doubled"] == 0
    assert {update.round for update in updates if update.ahead} == {1, 2}
    assert all(update.ahead[1] <= update.busy_from for update in updates if update.ahead)
    assert deployed.of(LeaseReleased) == []
    virtual = _virtual([*steady, *overlapped], tmp_path)
    assert summary["weights_sha256"] == tensors.digest(virtual.state.weights)
    deployed.clear()


@linux
@pytest.mark.slow
def test_a_budget_ends_a_deployment(deploy: Callable[..., Deployed]) -> None:
    """A round merges 2 · 4 steps of 32 tokens; the run continues to the end of its second round."""
    deployed = deploy("rounds=null", "budget.tokens=257", "round.overlap=2", "network.latency_s=5")
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary = deployed.summary()
    assert (summary["ended_by"], summary["rounds"], summary["tokens"]) == ("budget.tokens", 2, 512)
    assert summary["rows"]["leased"] == summary["rows"]["lost"] == summary["audit"]["violations"] == 0
    assert "token budget reached" in deployed.said()
    deployed.clear()


@linux
@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_from_its_checkpoint(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy("checkpoint_every=1")
    deployed.until((deployed.folder / "checkpoints" / "round_000001").exists)
    os.kill(deployed.server(), signal.SIGKILL)
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    assert "the ServerApp died" in deployed.said()
    summary = deployed.summary()
    assert (summary["status"], summary["rounds"]) == ("completed", 2)
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == summary["audit"]["violations"] == 0
    assert [event.round for event in deployed.events() if isinstance(event, RoundMerged)] == [0, 1]
    deployed.clear()


@linux
@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_all_of_its_processes(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy()
    deployed.until(lambda: any(isinstance(event, WorkDispatched) for event in deployed.events()))
    deployed.process.send_signal(signal.SIGINT)
    assert deployed.process.wait(WITHIN_S) == 130, deployed.said()
    assert deployed.summary()["status"] == "interrupted"
    assert not [event for event in deployed.events() if isinstance(event, ClientDown)]
    assert {event.reason for event in deployed.events() if isinstance(event, LeaseReleased)} <= {"end"}
    deployed.clear()


@linux
@pytest.mark.slow
def test_chaos_kills_a_node_and_starts_it_again(deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    windows = tmp_path / "windows.csv"
    windows.write_text("client,start,stop,exit\nclient_0,0,1e6,drain\nclient_1,0,3,crash\nclient_1,5,1e6,drain\n")
    chaos = ["runtime.chaos=true", "runtime.links=true", "runtime.min_clients=2"]
    recorded = [
        "volatility=intervals",
        f"volatility.file={windows}",
        "volatility.on_end=down",
        "volatility.period_s=null",
    ]
    deployed = deploy(*chaos, *recorded, "rounds=3")
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    events = deployed.events()
    enacted = [(e.client, e.action) for e in events if isinstance(e, ChaosEnacted)]
    assert enacted == [("client_0", "start"), ("client_1", "start"), ("client_1", "kill"), ("client_1", "start")]
    assert [(e.client, e.exit) for e in events if isinstance(e, ClientDown)] == [("client_1", "crash")]
    assert deployed.summary()["audit"]["violations"] == 0
    assert "died" not in deployed.said() and "exit code" not in deployed.said()
    assert deployed.left() == []
