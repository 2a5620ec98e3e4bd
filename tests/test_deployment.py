"""Flower's deployment engine: settings, and real processes on this machine."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fednano import tensors
from fednano.cli import compose_config
from fednano.clock import pause, wall
from fednano.coordination.memory import MemoryBoard
from fednano.data.progress import Silent
from fednano.events import ChaosEnacted, ClientDown, Event, LeaseReleased, RoundMerged, WorkDispatched, read_tape
from fednano.experiment import Experiment
from fednano.report.sinks import Local
from fednano.runtime.deployment import Deployment
from fednano.runtime.folder import run_in_folder
from fednano.runtime.provision import Command, Subprocess
from fednano.runtime.superlink import app_folder, free_port

WITHIN_S, CLEAR_S = 500.0, 30.0


@pytest.fixture
def steady(tiny: list[str]) -> list[str]:
    """Overrides of a tiny run of two clients that never leave."""
    words = [word for word in tiny if not word.startswith("volatility.")]
    return [*words, "volatility=none", "clients=2", "rounds=2"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 70000}, r"runtime\.port=70000"),
        ({"transfer_s": 0.0}, r"runtime\.transfer_s=0"),
        ({"transfer_s": float("inf")}, r"runtime\.transfer_s=inf"),
        ({"restarts": -1}, r"runtime\.restarts=-1"),
        ({"local_nodes": -1}, r"runtime\.local_nodes=-1"),
        ({"min_clients": 0}, r"runtime\.min_clients=0"),
        ({"crashes": {"cut": -1.0}}, r"runtime\.crashes\.cut=-1"),
        ({"speedup": 0.0}, r"runtime\.speedup=0"),
        ({"provisioner": "subprocess"}, "give it as runtime/provisioner=subprocess"),
        ({"chaos": True, "local_nodes": 1}, r"runtime\.local_nodes=1 is not for runtime\.chaos"),
        ({"chaos": True, "provisioner": Subprocess()}, "would both start and end nodes"),
        ({"provisioner": Subprocess(), "local_nodes": 0}, r"local_nodes=0 is not for .*=subprocess; use null"),
        ({"provisioner": Command(start=["a"], stop=["b"])}, r"local_nodes=None is not for .*=command; use 0"),
    ],
)
def test_bad_settings_name_their_key(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Deployment(**settings)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["volatility=markov"], "volatility=markov has no effect"),
        (["runtime.min_clients=3"], r"runtime.min_clients=3 is more than clients=2"),
        (["runtime.local_nodes=1"], r"runtime.local_nodes=1 leaves clients to other machines"),
        (["runtime.local_nodes=1", "runtime.hosts=[host.example.org]"], r"runtime.local_nodes=1 .* coordination=redis"),
        (["coordination=memory"], r"coordination.kind=memory"),
        (
            ["runtime/provisioner=subprocess", "runtime/signal=redis", "volatility=markov"],
            "volatility=markov has no effect",
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
        experiment.parts(experiment.prepare(Silent()), MemoryBoard())


def test_the_bundle_names_apps_that_are_there() -> None:
    import tomllib

    app = tomllib.loads((app_folder() / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    for component in app["components"].values():
        module, _, name = component.partition(":")
        source = (app_folder() / Path(*module.split("."))).with_suffix(".py")
        assert f"{name} = " in source.read_text(encoding="utf-8")
    assert set(app["config"]) == {"folder", "control", "board", "resume"}


def test_a_free_port_can_be_listened_on() -> None:
    import socket

    with socket.create_server(("127.0.0.1", free_port())):
        pass


class Deployed:
    """`python -m fednano.run runtime=deployment …` in a process, whose temporary files lie in a folder of their own."""

    def __init__(self, overrides: list[str], folder: Path, temporary: str) -> None:
        self.folder = folder
        self.temporary = temporary
        words = [*overrides, "runtime=deployment", "runtime.transfer_s=60"]
        self.output = folder.with_name("output").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fednano.run", *words, f"hydra.run.dir={folder}"],
            env={**os.environ, "TMPDIR": temporary, "OMP_NUM_THREADS": "1"},
            cwd=folder.parent,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def events(self) -> list[Event]:
        """What is on the tape by now."""
        tape = self.folder / "events.jsonl"
        return list(read_tape(tape)) if tape.exists() else []

    def until(self, there: Callable[[], bool]) -> None:
        """Wait for something while the run goes on."""
        begun = wall()
        while not there():
            assert self.process.poll() is None and wall() - begun < WITHIN_S, self.said()
            pause(0.1)

    def server(self) -> int:
        """The ServerApp's process."""
        (lock,) = Path(self.temporary).glob("fednano_*/server.lock")
        return int(lock.read_text())

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    def clear(self) -> None:
        """Wait until no process of the run is left: Flower's own notice that their parents have ended."""
        begun = wall()
        while left := self.left():
            assert wall() - begun < CLEAR_S, left
            pause(0.1)

    def left(self) -> list[str]:
        """The command lines of processes that this run has started and that are still there."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.temporary.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has just ended, or is another user's
        return found


@pytest.fixture
def deploy(steady: list[str], tmp_path: Path) -> Iterator[Callable[..., Deployed]]:
    """Start a tiny deployment; it is over when the test is."""
    started: list[Deployed] = []
    with tempfile.TemporaryDirectory(prefix="fn_") as temporary:

        def go(*overrides: str) -> Deployed:
            started.append(Deployed([*steady, *overrides], tmp_path / "run", temporary))
            return started[-1]

        yield go
        for deployed in started:
            deployed.process.kill()
            deployed.process.wait()
            deployed.output.close()


linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are listed in /proc")


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
    experiment = Experiment(compose_config(steady))
    parts = experiment.parts(experiment.prepare(Silent()), MemoryBoard())
    (tmp_path / "virtual").mkdir()
    virtual = run_in_folder(tmp_path / "virtual", "test", experiment.runtime, parts, Local(), {"name": "test"})
    assert summary["weights_sha256"] == tensors.digest(virtual.state.weights)
    assert 0.0 < summary["goodput"] <= 1.0
    assert "round 2/2" in deployed.said()
    assert list(Path(deployed.temporary).glob("fednano_*")) == []
    deployed.clear()
    # The board's password is in no file.
    assert not [p for p in deployed.folder.rglob("*") if p.is_file() and b"redis://" in p.read_bytes()]
    config = OmegaConf.load(deployed.folder / "config.yaml")
    assert config.runtime.name == "deployment"


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
    windows.write_text("client,start,stop,exit\nclient_0,0,1e6,drain\nclient_1,0,8,crash\nclient_1,10,1e6,drain\n")
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
