"""Deployments whose processes are killed: every row is trained exactly once, whatever dies and whenever."""

import os
import signal
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployed import WITHIN_S, Deployed, linux
from redis import Redis

from fednano.clock import pause
from fednano.events import ChaosEnacted, ClientDown, LeaseReleased, RoundMerged, UpdateFolded, WorkDispatched

pytestmark = [linux, pytest.mark.slow]

STEPS = "strategy.local_steps=60"  # some seconds of training, for the kill to come in time
THIN = ["runtime.links=true", "network.up_mbit_s=4", "network.down_mbit_s=4"]  # four seconds for each transfer

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50"))
SETTLED = 3  # rounds after which a server has what it needs
GROWTH_MB = 24.0  # beyond that; one update kept for each round would be 95 in 50 rounds


def in_training(deployed: Deployed, client: str, after: int = -1) -> int:
    """Wait until a client's trainer says that it works on a lease behind `after`; which one.

    The tape is no help: its lines are written with the next event, which may be the end of the steps.
    """

    def working() -> bool:
        beat = deployed.beat(client)
        return beat is not None and beat.lease > after

    deployed.until(working)
    beat = deployed.beat(client)
    assert beat and beat.lease > after, "the steps were over before somebody looked"
    return beat.lease


def lost(deployed: Deployed, lease: int) -> None:
    """The work of a lease was lost, and its rows were free again."""
    (released,) = deployed.of(LeaseReleased, lease=lease)
    # The relay of a trainer that died may say so before its beats are missed.
    assert released.reason in ("crash", "refused")
    assert not deployed.of(UpdateFolded, lease=lease)


def secrets_of(deployed: Deployed) -> list[bytes]:
    """The password of the run's Redis server and the tokens of the leases that are in force."""
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
    """The run ends by itself, with every row trained once at most, and leaves no process."""
    assert deployed.process.wait(WITHIN_S) == 0, deployed.said()
    summary = deployed.summary()
    assert (summary["status"], summary["rounds"]) == ("completed", rounds)
    assert summary["rows"]["lost"] == summary["rows"]["doubled"] == summary["audit"]["violations"] == 0
    deployed.clear()


def test_nodes_that_are_killed_lose_their_work_and_no_row(deploy: Callable[..., Deployed]) -> None:
    rounds = 3
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
    deployed.until(lambda: "Redis died; it is started again" in deployed.said())
    deployed.until((deployed.folder / "checkpoints" / "round_000001").exists)

    lease = in_training(deployed, "client_1", after=1)
    os.kill(deployed.server(), signal.SIGKILL)
    deployed.until(lambda: "the ServerApp died" in deployed.said())

    in_training(deployed, "client_0", after=lease)
    secrets += secrets_of(deployed)
    deployed.kill("flower-superlink")
    deployed.until(lambda: "SuperLink was ended by SIGKILL" in deployed.said())

    completed(deployed, rounds)
    assert [event.round for event in deployed.of(RoundMerged)] == list(range(rounds))
    assert not deployed.of(ClientDown), "nodes outlive their servers"
    left = [path for path in deployed.folder.parent.rglob("*") if path.is_file()]
    assert deployed.folder / "logs" / "superlink.log" in left
    assert not [path for path in left if any(secret in path.read_bytes() for secret in secrets)]


def test_random_kills_lose_no_row_and_fill_no_memory(deploy: Callable[..., Deployed]) -> None:
    comings = ["volatility=markov", "volatility.exit=crash", "volatility.mean_up_s=40", "volatility.mean_down_s=10"]
    kinds = ["runtime.crashes.pause=1", "runtime.crashes.cut=1"]
    deployed = deploy("runtime.chaos=true", *comings, *kinds, "clients=3", "seed=1", f"rounds={ROUNDS}")
    resident: dict[int, float] = {}  # MB of the ServerApp by merged rounds
    while deployed.process.poll() is None:
        merged = len(deployed.of(RoundMerged))
        if merged not in resident and 0 < merged < ROUNDS:
            resident[merged] = resident_mb(deployed.server())
        pause(0.2)
    completed(deployed, ROUNDS)
    assert deployed.of(ChaosEnacted, action="kill") and deployed.of(LeaseReleased, reason="crash")
    settled = [megabytes for rounds, megabytes in resident.items() if rounds > SETTLED]
    assert max(settled) - settled[0] < GROWTH_MB, resident
