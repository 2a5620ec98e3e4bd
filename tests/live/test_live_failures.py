"""Deployments whose processes are killed: every row is trained exactly once, whatever dies and whenever."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest
from redis import Redis
from support.bad_network import HERE, BadNetwork
from support.deployed import WITHIN_S, Deployed, linux

from fednano.config.errors import BAD_INPUT
from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import URL_VARIABLE
from fednano.core.clock import pause
from fednano.core.events import (
    ChaosEnacted,
    ClientDown,
    LeaseGranted,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    UpdateFolded,
    WorkDispatched,
)

pytestmark = [linux, pytest.mark.slow]

STEPS = "strategy.local_steps=60"  # some seconds of training, for the kill to come in time
THIN = ["runtime.links=true", "network.up_mbit_s=4", "network.down_mbit_s=4"]  # four seconds for each transfer

SUPERLINK = "fednano.runtime.deployment.superlink_process"
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50"))
SETTLED = 3  # rounds after which a server has what it needs
LOSS = 0.1  # of the packets, each way
DOWN_WITHIN_S = 5.0
FILES = ("root_certificates", "private_key")
GROWTH_MB = 24.0  # beyond that; one update kept for each round would be 95 in 50 rounds


def in_training(deployed: Deployed, client: str, after: int = -1) -> int:
    """Wait until a client's trainer reports that it works on a lease later than `after`; returns that lease.

    The event log is no help: it tells when work is given out, not when it begins.
    """

    def working() -> bool:
        heartbeat = deployed.heartbeat(client)
        return heartbeat is not None and heartbeat.lease > after

    deployed.until(working)
    heartbeat = deployed.heartbeat(client)
    assert heartbeat and heartbeat.lease > after, "the steps were over before somebody looked"
    return heartbeat.lease


def lost(deployed: Deployed, lease: int) -> None:
    """Assert that the work of a lease was lost and its rows became free again."""
    (released,) = deployed.of(LeaseReleased, lease=lease)
    # The relay of a trainer that died may say so before its heartbeats are missed.
    assert released.reason in ("crash", "refused")
    assert not deployed.of(UpdateFolded, lease=lease)


def secrets_of(deployed: Deployed) -> list[bytes]:
    """The password of the run's Redis server, and the tokens of the active leases."""
    with closing(Redis.from_url(deployed.url())) as redis:
        tokens = [redis.get(key) for key in redis.scan_iter("fednano:*:lease:*")]
    password = urlsplit(deployed.url()).password
    assert password
    return [password.encode(), *filter(None, tokens)]


def command_lines() -> list[bytes]:
    """Those of all processes, with their titles."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines.append((process / "cmdline").read_bytes())
    return lines


def resident_mb(pid: int) -> float:
    """The memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def completed(deployed: Deployed, rounds: int) -> None:
    """Assert that the run ends by itself, trains every row at most once, and leaves no process behind."""
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary = deployed.summary()
    assert (summary["status"], summary["rounds"]) == ("completed", rounds)
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == summary["audit"]["violations"] == 0
    deployed.clear()


def test_nodes_that_are_killed_lose_their_work_and_no_row(deploy: Callable[..., Deployed]) -> None:
    rounds = 8  # nodes have to be back before they are over
    deployed = deploy(STEPS, *THIN, "clients=3", f"rounds={rounds}")
    (downloading, *_) = deployed.until(lambda: deployed.of(WorkDispatched, client="client_0"))
    deployed.kill_node("client_0")
    training = in_training(deployed, "client_1")
    deployed.kill_node("client_1")
    trainer = in_training(deployed, "client_2")
    deployed.kill("fednano.node.trainer", '"name": "client_2"')
    uploading = in_training(deployed, "client_2", after=trainer)
    deployed.until(lambda: " steps, loss" in deployed.log("client_2"))
    deployed.kill_node("client_2")

    completed(deployed, rounds)
    for lease in (downloading.lease, training, trainer, uploading):
        lost(deployed, lease)
    assert {event.client for event in deployed.of(ClientDown, exit="crash")} >= {"client_0", "client_1", "client_2"}


def test_servers_that_are_killed_come_back_and_no_row_is_lost(deploy: Callable[..., Deployed]) -> None:
    rounds = 3
    deployed = deploy(STEPS, f"rounds={rounds}", "checkpoint_every=1")
    in_training(deployed, "client_0")
    secrets = secrets_of(deployed)
    assert not [line for line in command_lines() if any(secret in line for secret in secrets)]
    os.kill(deployed.redis(), signal.SIGKILL)
    deployed.until(lambda: "Redis died; it was restarted" in deployed.said())
    deployed.until((deployed.folder / "checkpoints" / "round_000001").exists)

    lease = in_training(deployed, "client_1", after=1)
    os.kill(deployed.server(), signal.SIGKILL)
    deployed.until(lambda: "the ServerApp died" in deployed.said())

    in_training(deployed, "client_0", after=lease)
    secrets += secrets_of(deployed)
    deployed.kill(SUPERLINK)
    deployed.until(lambda: "SuperLink was killed by SIGKILL" in deployed.said())

    completed(deployed, rounds)
    assert [event.round for event in deployed.of(RoundMerged)] == list(range(rounds))
    assert not deployed.of(ClientDown), "nodes outlive their servers"
    left = [path for path in deployed.folder.parent.rglob("*") if path.is_file()]
    assert deployed.folder / "logs" / "superlink.log" in left
    assert not [path for path in left if any(secret in path.read_bytes() for secret in secrets)]


def test_random_kills_lose_no_row_and_fill_no_memory(
    deploy: Callable[..., Deployed], record_testsuite_property: Callable[[str, object], None]
) -> None:
    comings = ["volatility=markov", "volatility.exit=crash", "volatility.mean_up_s=40", "volatility.mean_down_s=10"]
    kinds = ["runtime.crashes.kill=2", "runtime.crashes.pause=1", "runtime.crashes.cut=1"]
    words = [STEPS, "runtime.transfer_s=20", "clients=3", "seed=4", f"rounds={ROUNDS}"]
    deployed = deploy("runtime.chaos=true", *comings, *kinds, *words)
    resident: dict[int, tuple[float, float]] = {}  # MB of ServerApp and SuperLink by rounds that are over
    while deployed.process.poll() is None:
        over = len(deployed.of(RoundMerged)) + len(deployed.of(RoundSkipped))
        if over not in resident and over > 0:
            with suppress(OSError, ValueError):  # the run ends
                resident[over] = resident_mb(deployed.server()), resident_mb(deployed.process_of(SUPERLINK))
        pause(0.5)
    actions = Counter(event.action for event in deployed.of(ChaosEnacted))
    record_testsuite_property("random kills: MB by rounds", resident)
    record_testsuite_property("random kills: actions", dict(actions))
    record_testsuite_property("random kills: seconds", deployed.events()[-1].t)
    completed(deployed, ROUNDS)
    assert actions["kill"] and deployed.of(LeaseReleased, reason="crash")
    settled, links = zip(*(held for rounds, held in resident.items() if rounds >= SETTLED), strict=True)
    assert max(settled) - settled[0] < GROWTH_MB, resident
    half = len(links) // 2  # what passes through SuperLink at a time varies
    assert median(links[half:]) - median(links[:half]) < GROWTH_MB, resident


def test_a_second_node_of_one_name_is_refused_and_the_run_goes_on(
    deploy: Callable[..., Deployed], tmp_path: Path
) -> None:
    rounds = 12  # the second node has to be there before they are over
    deployed = deploy(STEPS, f"rounds={rounds}")
    in_training(deployed, "client_0")
    first = deployed.process_of("-m fednano.node ", "name='client_0'")
    command = Path(f"/proc/{first}/cmdline").read_text().split("\0")[:-1]
    words = [word for word in command if not word.startswith("folder=")]
    environment = {**os.environ, URL_VARIABLE: deployed.url(), "OMP_NUM_THREADS": "1"}
    second = subprocess.run(
        [*words, f"folder='{tmp_path / 'second'}'"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    (line,) = [line for line in second.stdout.splitlines() if "is taken by another node" in line]
    assert "name=client_0 " in line and "; stop that one, or choose another name" in line
    assert second.returncode == BAD_INPUT
    assert deployed.process.poll() is None, "the run was over before the second node was there"

    completed(deployed, rounds)
    assert not deployed.of(ClientDown)
    assert {event.client for event in deployed.of(UpdateFolded, round=rounds - 1)} == {"client_0", "client_1"}


@pytest.fixture
def network() -> Iterator[BadNetwork]:
    """A separate network for a node; without the rights to make one, the test is skipped."""
    try:
        made = BadNetwork(f"fn{os.getpid()}", LOSS)
    except OSError as error:
        pytest.skip(f"no network namespace with a bad link can be made here: {error}")
    yield made
    made.close()


@pytest.fixture
def redis(network: BadNetwork) -> Iterator[str]:
    """The URL of a Redis server that the other network can reach too."""
    with EmbeddedRedis() as server:
        with closing(Redis.from_url(server.address.url)) as client:
            client.config_set("bind", f"127.0.0.1 {HERE}")
        yield server.address.url.replace("@127.0.0.1:", f"@{HERE}:")


@pytest.fixture
def elsewhere(network: BadNetwork, redis: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a node in the other network by the command that the run printed; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def go(deployed: Deployed, client: str, folder: str) -> subprocess.Popen[bytes]:
        (line,) = [line for line in deployed.said().splitlines() if f"fednano.node name={client} " in line]
        # It names the files as they are called here; nobody carries them to another machine.
        (key,) = Path(deployed.temporary).glob(f"fednano_*/{client}.key")
        words = [f"{k}={key.parent / v if k in FILES else v}" for k, v in (w.split("=") for w in line.split()[3:])]
        command = network.inside(sys.executable, "-m", "fednano.node", *words, f"folder={tmp_path / folder}")
        environment = {**os.environ, URL_VARIABLE: redis, "OMP_NUM_THREADS": "1"}
        with (tmp_path / f"{folder}.log").open("w") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield go
    for node in started:
        node.kill()
        node.wait()


def test_a_node_behind_a_lossy_link_survives_a_partition(
    deploy: Callable[..., Deployed],
    network: BadNetwork,
    redis: str,
    elsewhere: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv(URL_VARIABLE, redis)
    there = ["runtime.local_nodes=1", f"runtime.hosts=[{HERE}]", "coordination=redis", "runtime.transfer_s=20"]
    deployed = deploy(STEPS, *there, "rounds=200")
    deployed.until(lambda: "start these nodes elsewhere" in deployed.said())
    node = elsewhere(deployed, "client_1", "there")
    deployed.until(lambda: len(deployed.of(UpdateFolded, client="client_1")) > 1)
    second = elsewhere(deployed, "client_1", "second")
    deployed.until(lambda: "the SuperLink rejects private_key=" in (tmp_path / "second.log").read_text())
    second.terminate()
    assert second.wait(WITHIN_S) == 0

    lease = in_training(deployed, "client_1", after=deployed.of(UpdateFolded, client="client_1")[-1].lease)
    network.lose(1.0)
    deployed.note("client_1", "cut")
    (cut,) = deployed.until(lambda: deployed.of(ChaosEnacted, action="cut"))
    down = deployed.until(lambda: [e for e in deployed.of(ClientDown, client="client_1") if e.t >= cut.t])[0]
    assert down.exit == "crash" and down.t - cut.t < DOWN_WITHIN_S
    (granted,) = deployed.of(LeaseGranted, lease=lease)
    deployed.until(lambda: deployed.events()[-1].t > granted.expires)

    network.lose(LOSS)
    deployed.note("client_1", "mend")
    (mended,) = deployed.until(lambda: deployed.of(ChaosEnacted, action="mend"))
    assert not [e for e in deployed.of(UpdateFolded, client="client_1") if cut.t < e.t < mended.t]
    folded = deployed.until(lambda: [e for e in deployed.of(UpdateFolded, client="client_1") if e.t > mended.t])[0]
    record_testsuite_property(
        "partition: seconds", {"down": down.t - cut.t, "away": mended.t - cut.t, "back": folded.t - mended.t}
    )
    deployed.process.send_signal(signal.SIGINT)
    assert deployed.process.wait(WITHIN_S) == 130, deployed.said()
    summary = deployed.summary()
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == summary["audit"]["violations"] == 0
    lost(deployed, lease)
    node.terminate()
    assert node.wait(WITHIN_S) == 0
    deployed.clear()
