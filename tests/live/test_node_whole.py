"""A whole node with a real Redis server: heartbeats once it is warm, recovery after a kill, a clean exit."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from os import environ, kill
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fednano.config.compose import compose_config
from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_store import RedisStore
from fednano.coordination.store import Heartbeat
from fednano.core.clock import RealClock, pause
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment

PATIENCE_S = 120.0


@pytest.mark.slow
def test_a_node_lives_through_the_death_of_its_trainer(tiny: list[str], tmp_path: Path) -> None:
    experiment = Experiment(cfg := compose_config(tiny))
    experiment.prepare(Silent())
    OmegaConf.save(OmegaConf.create(experiment.resolved(cfg)), tmp_path / "config.yaml")
    words = ["name=client_0", "superlink=127.0.0.1:1", "insecure=true", "run=r1", f"folder={tmp_path / 'node'}"]
    command = [sys.executable, "-m", "fednano.node", *words, f"config={tmp_path / 'config.yaml'}"]
    with EmbeddedRedis() as redis:
        node = subprocess.Popen(command, env=environ | redis.address.environment, stdout=subprocess.PIPE, text=True)
        with closing(RedisStore(redis.address, "r1", RealClock())) as store, node:
            try:
                trainer = until(node, "trainer started")
                until(node, "trainer: ready")
                first = beating(store, lambda heartbeat: heartbeat.ready)
                assert first.step_s > 0
                kill(int(trainer.rpartition(" ")[2]), signal.SIGKILL)
                until(node, "trainer was killed by SIGKILL")
                until(node, "trainer: ready")
                beating(store, lambda heartbeat: heartbeat.ready and heartbeat.incarnation != first.incarnation)
                node.terminate()
                until(node, "trainer ended")
                until(node, "supernode ended")
                assert node.wait() == 128 + signal.SIGTERM
                assert not store.present(), "its name is free at once"
            finally:
                node.kill()


def until(node: subprocess.Popen[str], what: str) -> str:
    """The next line that contains the text."""
    seen = []
    assert node.stdout
    for line in node.stdout:
        seen.append(line)
        if what in line:
            return line.strip()
    raise AssertionError(f"{what!r} is not in {''.join(seen)}")


def beating(store: RedisStore, expected: Callable[[Heartbeat], bool]) -> Heartbeat:
    """The node's heartbeat, once it is as expected."""
    clock = RealClock()
    while clock.now() < PATIENCE_S:
        heartbeat = store.present().get("client_0")
        if heartbeat and expected(heartbeat):
            return heartbeat
        pause(0.05)
    raise AssertionError(f"the node says {store.present()}")
