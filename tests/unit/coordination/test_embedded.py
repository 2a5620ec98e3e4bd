"""The Redis server of a run's own, and the `coordination` choices."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fednano.config.build import build_groups
from fednano.config.compose import compose_config, conf_dir
from fednano.coordination import embedded
from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import Address, Link
from fednano.coordination.settings import Coordination
from fednano.core.clock import RealClock, pause, wall
from fednano.experiment.experiment import Experiment


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether the process ends."""
    until = wall() + within_s
    while wall() < until:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        pause(0.01)
    return False


def kill(server: EmbeddedRedis, within_s: float = 20.0) -> None:
    """Kill it and see it noticed."""
    os.kill(server.pid, signal.SIGKILL)
    until = wall() + within_s
    while server.alive():
        assert wall() < until
        pause(0.01)


# The server


def test_its_password_stands_where_no_other_user_looks(server: EmbeddedRedis) -> None:
    for pid in (server.pid, server.server.guard):
        for what in ("cmdline", "environ"):
            assert server._password.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
    assert server._password not in repr(server.address)
    with closing(Link(server.address, "test")) as link:
        for setting, value in {"bind": "127.0.0.1", "protected-mode": "yes", "save": "", "appendonly": "no"}.items():
            (answer,) = link.transact([("CONFIG", "GET", setting)])
            assert answer == [setting, value]


def test_it_ends_with_its_block() -> None:
    with EmbeddedRedis() as server:
        server_pid, guard = server.pid, server.server.guard
        assert guard is not None
        assert server.alive()
        address = server.address
    assert gone(server_pid)
    assert gone(guard)
    with closing(Link(address, "test")) as link, pytest.raises(ValueError, match="coordination=embedded: no Redis"):
        link.check()


def test_it_ends_with_a_process_that_is_killed() -> None:
    code = (
        "import sys\n"
        "from fednano.coordination.embedded import EmbeddedRedis\n"
        "with EmbeddedRedis() as server:\n"
        "    print(server.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.kill()
    assert gone(pid)


def test_it_starts_again_empty_at_the_same_address() -> None:
    with EmbeddedRedis() as server, closing(Link(server.address, "test")) as link:
        before, address = server.pid, server.address
        link.transact([("SET", link.key("lease"), 1, "PX", 60_000)])
        kill(server)
        server.restart()
        assert server.pid != before
        assert server.address == address
        assert link.transact([("DBSIZE",)]) == [0]


def test_a_port_that_someone_takes_first_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], embedded._free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with EmbeddedRedis() as server:
            assert server.address.host != f"127.0.0.1:{taken.getsockname()[1]}"
            assert server.alive()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "server"
    broken.write_text("#!/bin/sh\necho out of order\n")
    broken.chmod(0o700)
    with pytest.raises(RuntimeError, match="does not start; it said: out of order"), EmbeddedRedis(broken):
        pass


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that vouches for itself; its key beside it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@contextmanager
def tls_before(server: EmbeddedRedis, certificate: Path) -> Iterator[int]:
    """The port of a TLS end of the server, which has none of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    host, _, port = server.address.host.partition(":")

    def relay(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                outside = context.wrap_socket(raw, server_side=True)
            except OSError:
                continue
            inside = socket.create_connection((host, int(port)))
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_tls_needs_an_authority_that_vouches(server: EmbeddedRedis, certificate: Path) -> None:
    with tls_before(server, certificate) as port:
        url = f"rediss://:{server._password}@localhost:{port}"
        with closing(Link(Address(url, str(certificate)), "test")) as link:
            link.check()
        with closing(Link(Address(url), "test")) as link, pytest.raises(ValueError, match=r"CERTIFICATE_VERIFY_FAILED"):
            link.check()


def test_an_authority_that_cannot_be_used_is_refused(certificate: Path) -> None:
    with pytest.raises(ValueError, match=r"must be omitted with redis://, got .*; use rediss:// or omit it"):
        Address("redis://localhost", str(certificate))
    with pytest.raises(ValueError, match=r"must exist, got .*ca.pem.gone; name a PEM file"):
        Address("rediss://localhost", f"{certificate}.gone")


# The choices


def chosen(*overrides: str) -> Coordination:
    coordination: Coordination = build_groups(compose_config(list(overrides)), ["coordination"])["coordination"]
    return coordination


@pytest.mark.parametrize("choice", sorted(path.stem for path in (conf_dir() / "coordination").iterdir()))
def test_every_choice_is_what_it_is_called(choice: str) -> None:
    assert chosen(f"coordination={choice}").kind == choice
    assert chosen().kind == "auto"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "coordination.kind=zookeeper",
            "coordination.kind must be auto, memory, embedded or redis, got zookeeper",
        ),
        ("+coordination.password=x", "coordination.password=x sets a key that Coordination does not have"),
        (
            "+coordination.ca_file=ca.pem",
            "ca.pem; use coordination=redis",
        ),
        ("+coordination.url_env='redis://a'", "must be the name of an environment variable, got"),
    ],
)
def test_bad_values_are_refused(override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        chosen(override)


@pytest.mark.parametrize("choice", ["embedded", "redis"])
def test_clients_in_this_process_need_no_redis(tiny: list[str], choice: str) -> None:
    with pytest.raises(
        ValueError, match=f"must be auto or memory with runtime=virtual, which has no other processes, got {choice}; "
    ):
        Experiment(compose_config([*tiny, f"coordination={choice}"]))
    Experiment(compose_config([*tiny, "coordination=memory"]))


def test_clients_elsewhere_need_more_than_memory() -> None:
    with pytest.raises(ValueError, match=r"kind must not be memory with runtime=deployment, .* use coordination=auto"):
        Coordination("memory").check("deployment", in_process=False)
    Coordination("auto").check("deployment", in_process=False)


def test_a_run_serves_itself_and_its_processes_find_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    coordination = Coordination("auto")
    with coordination.serving() as serving:
        for name, value in serving.environment.items():
            monkeypatch.setenv(name, value)
        assert serving.address.url not in repr(serving)
        with closing(coordination.store("test", RealClock())) as store:
            assert store.sync()
            assert not serving.tend()
            assert serving.server is not None
            kill(serving.server)
            assert serving.tend()
            assert not serving.tend()
            assert any(store.sync() for _ in range(100))


def test_a_server_that_is_there_is_named_by_the_environment(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordination = chosen("coordination=redis", "coordination.url_env=REDIS_URL")
    for name in ("REDIS_URL", "FEDNANO_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="the environment variable REDIS_URL is not set; set it to the URL of a Redis"):
        coordination.check("deployment", in_process=False)
    monkeypatch.setenv("REDIS_URL", server.address.url.replace("redis://:", "redis://:wrong"))
    with pytest.raises(ValueError, match=r"REDIS_URL: Redis at .* refuses the user name or password") as caught:
        coordination.check("deployment", in_process=False)
    assert server._password not in str(caught.value)
    monkeypatch.setenv("REDIS_URL", server.address.url)
    coordination.check("deployment", in_process=False)
    with coordination.serving() as serving:
        assert serving.address.url == server.address.url
        assert not serving.tend()
        environment = serving.environment
    monkeypatch.delenv("REDIS_URL")
    # A process of the run's knows it by the run's own variable.
    monkeypatch.setenv("FEDNANO_REDIS_URL", environment["FEDNANO_REDIS_URL"])
    coordination.check("deployment", in_process=False)
