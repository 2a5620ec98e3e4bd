"""Certificates and keys of a local deployment."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_private_key

from fednano.process.temporary import temporary_folder
from fednano.runtime.deployment.security import Certificates, make_certificates, make_node_key


def _handshake(certificates: Certificates, trusted: Path, name: str) -> str | None:
    """What a client that trusts `trusted` and calls the server `name` gets to see; raises where it refuses."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.certificate, certificates.key)
    client = ssl.create_default_context(cafile=str(trusted))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as wrapped:
            return wrapped.version()
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "superlink.example.org", "10.1.2.3"])
def test_a_client_that_trusts_the_authority_accepts_the_server_under_its_names(tmp_path: Path, name: str) -> None:
    certificates = make_certificates(tmp_path, ["superlink.example.org", "10.1.2.3", "localhost"])
    assert _handshake(certificates, certificates.authority, name) in ("TLSv1.2", "TLSv1.3")


def test_other_names_and_other_authorities_are_refused(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"elsewhere\.example\.org"):
        _handshake(certificates, certificates.authority, "elsewhere.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(certificates, other.authority, "127.0.0.1")


def test_a_certificate_is_valid_for_a_day(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    for path in (made.authority, made.certificate):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        lives = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert 86400 <= lives.total_seconds() <= 87000


@pytest.mark.parametrize("host", ["https://example.org", "example.org:9092", "", "two words", "bücher.example"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match=r"runtime\.hosts must be"):
        make_certificates(tmp_path, [host])


def test_a_node_has_a_key_pair_of_its_own(tmp_path: Path) -> None:
    public = [make_node_key(tmp_path / f"{name}.key") for name in ("a", "b")]
    assert public[0] != public[1]
    private = load_ssh_private_key((tmp_path / "a.key").read_bytes(), None)
    assert private.public_key() == load_pem_public_key(public[0])


def test_secrets_are_readable_by_nobody_else_and_go_with_the_folder() -> None:
    with temporary_folder() as folder:
        make_certificates(folder)
        make_node_key(folder / "node.key")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert not folder.exists()
