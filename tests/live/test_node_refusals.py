"""Refusal of nodes that a federation does not know, with the reason in one line."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from os import environ
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fednano.config.compose import compose_config
from fednano.config.errors import BAD_INPUT
from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import URL_VARIABLE, Address
from fednano.coordination.redis_node import NodeStore
from fednano.coordination.store import Heartbeat
from fednano.core.clock import RealClock
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.process.temporary import temporary_folder
from fednano.runtime.deployment.security import make_certificates, make_node_key
from fednano.runtime.deployment.superlink import SuperLink

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Servers:
    """A SuperLink that knows client_0, and Redis; `config` belongs to its run, `strange` holds files of another run."""

    superlink: SuperLink
    key: Path
    redis: Address
    config: Path
    strange: Path


@pytest.fixture(scope="module")
def servers(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers that refuse nodes; shared by all tests."""
    folder, strange = tmp_path_factory.mktemp("servers"), tmp_path_factory.mktemp("strange")
    experiment = Experiment(cfg := compose_config(tiny))
    experiment.prepare(Silent())
    OmegaConf.save(OmegaConf.create(experiment.resolved(cfg)), folder / "config.yaml")
    make_certificates(strange)
    make_node_key(strange / "node.key")
    with EmbeddedRedis() as redis, temporary_folder() as private:
        superlink = SuperLink(
            folder=private,
            log=folder / "superlink.log",
            certificates=make_certificates(private),
            secrets=redis.address.environment,
        )
        try:
            superlink.start()
            yield Servers(
                superlink=superlink,
                key=superlink.register("client_0"),
                redis=redis.address,
                config=folder / "config.yaml",
                strange=strange,
            )
        finally:
            superlink.stop()


@pytest.fixture
def start(servers: Servers, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start client_0's node with its run's settings, except for those that the test changes; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def go(redis: str = servers.redis.url, **settings: Path | None) -> subprocess.Popen[str]:
        files: dict[str, Path | None] = {
            "root_certificates": servers.superlink.certificates.authority,
            "private_key": servers.key,
            "config": servers.config,
            "folder": tmp_path / "node",
            **settings,
        }
        words = ["name=client_0", f"superlink={servers.superlink.address}", "run=r1"]
        words += [f"{key}={path}" for key, path in files.items() if path]
        node = subprocess.Popen(
            [sys.executable, "-m", "fednano.node", *words],
            env={**environ, URL_VARIABLE: redis},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(node)
        return node

    yield go
    for node in started:
        node.kill()
        node.wait()
        assert node.stdout
        node.stdout.close()


def test_a_node_without_a_key_is_refused(start: Callable[..., subprocess.Popen[str]]) -> None:
    node = start(private_key=None)
    said, _ = node.communicate()
    assert "supernode refused its input (the SuperLink accepts registered nodes only; set private_key=" in said
    assert node.returncode == BAD_INPUT


def test_a_superlink_with_a_strange_certificate_is_refused(
    start: Callable[..., subprocess.Popen[str]], servers: Servers
) -> None:
    node = start(root_certificates=servers.strange / "authority.pem")
    said, _ = node.communicate()
    assert "(the SuperLink's certificate is not signed by root_certificates=; give" in said
    assert node.returncode == BAD_INPUT


def test_a_node_with_a_strange_key_says_so_and_tries_again(
    start: Callable[..., subprocess.Popen[str]], servers: Servers
) -> None:
    node = start(private_key=servers.strange / "node.key")
    assert node.stdout
    said = next(line for line in node.stdout if "supernode ended" in line)
    assert "supernode ended with exit code 1 (the SuperLink rejects private_key=: " in said
    assert "; restart in" in said
    node.terminate()
    assert node.wait() == 0


def test_a_node_with_a_wrong_password_is_refused(start: Callable[..., subprocess.Popen[str]], servers: Servers) -> None:
    wrong = "redis://:guessed-secret@" + servers.redis.host
    node = start(redis=wrong)
    said, _ = node.communicate()
    assert f"{URL_VARIABLE}: Redis at {servers.redis.host} refuses the user name or password" in said
    assert "guessed-secret" not in said
    assert node.returncode == BAD_INPUT


def test_a_second_node_of_one_name_is_refused(start: Callable[..., subprocess.Popen[str]], servers: Servers) -> None:
    with closing(NodeStore(servers.redis, "r1", "client_0", RealClock())) as first:
        first.heartbeat(
            Heartbeat(name="client_0", incarnation="first", ready=True, leaving=False, step_s=0.1, lease=-1)
        )
        node = start()
        said, _ = node.communicate()
        assert "name=client_0 is taken by another node (incarnation first); stop that node or choose another" in said
        assert node.returncode == BAD_INPUT
