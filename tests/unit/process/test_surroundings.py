"""What a machine, a user and the environment lack: put right, or refused in one line."""

import getpass
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from fednano.core.files import require_writable
from fednano.process.surroundings import (
    require_open_files,
    require_port,
    require_shared_memory,
    require_utf8,
    settle,
    spare_this_machine,
    without_foreign_proxies,
)

PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_is_for_other_machines_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv(name, PROXY)
    monkeypatch.setenv("no_proxy", "site.example")
    environ = {**os.environ}
    spare_this_machine(environ)
    assert environ[name] == PROXY
    assert environ["no_proxy"] == environ["NO_PROXY"] == "site.example,127.0.0.1,localhost,::1"
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, environ[variable])
    scheme = "http" if "http_" in name.lower() else "https"
    with httpx.Client() as client:
        usual = client._transport
        assert client._transport_for_url(httpx.URL(f"{scheme}://127.0.0.1:1")) is usual
        assert client._transport_for_url(httpx.URL(f"{scheme}://localhost:1")) is usual
        assert client._transport_for_url(httpx.URL(f"{scheme}://api.example")) is not usual


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {}),
        ({"no_proxy": "a"}, {"no_proxy": "a"}),
        ({"http_proxy": ""}, {"http_proxy": ""}),
        ({"http_proxy": PROXY, "NO_PROXY": "*"}, {"http_proxy": PROXY, "NO_PROXY": "*", "no_proxy": "*"}),
        (
            {"grpc_proxy": PROXY, "no_grpc_proxy": "a,localhost"},
            {
                "grpc_proxy": PROXY,
                "no_grpc_proxy": "a,localhost,127.0.0.1,::1",
                "no_proxy": "127.0.0.1,localhost,::1",
                "NO_PROXY": "127.0.0.1,localhost,::1",
            },
        ),
    ],
)
def test_exceptions_from_proxies_are_added_once(given: dict[str, str], made: dict[str, str]) -> None:
    spare_this_machine(given)
    assert given == made
    spare_this_machine(given)
    assert given == made


def test_proxies_that_flower_cannot_use_are_left_out_for_it() -> None:
    usable = {"http_proxy": "proxy:3128", "HTTPS_PROXY": PROXY, "ftp_proxy": "socks4://x", "PATH": "/bin"}
    given = {**usable, "all_proxy": "socks4://127.0.0.1:9", "https_proxy": "http://[", "ALL_PROXY": "nonsense://x"}
    assert without_foreign_proxies(given) == usable


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"runtime\.port must be a free port of 127\.0\.0\.1, got {port}"):
            require_port("runtime.port", port, "127.0.0.1")
    require_port("runtime.port", port, "127.0.0.1")
    require_port("runtime.port", 0, "127.0.0.1")


def test_a_folder_is_tried_out_and_nothing_is_left(tmp_path: Path) -> None:
    require_writable("hydra.run.dir", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"lies under .*which is a file"):
        require_writable("hydra.run.dir", tmp_path / "file" / "b")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_folder_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"hydra\.run\.dir must be writable, got /proc/a"):
        require_writable("hydra.run.dir", Path("/proc/a"))
    monkeypatch.setenv("TMPDIR", "/proc")
    with pytest.raises(ValueError, match="TMPDIR must be a folder that can be written, got /proc; create it or unset"):
        settle()


def test_a_path_in_an_old_encoding_is_refused() -> None:
    require_utf8("hydra.run.dir", Path("/ü"))
    with pytest.raises(ValueError, match=r"hydra\.run\.dir must be UTF-8, got /\?; set LC_ALL"):
        require_utf8("hydra.run.dir", Path(os.fsdecode(b"/\xff")))


def test_a_temporary_folder_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"TMPDIR must be a folder that can be written, got .*gone"):
        settle()
    monkeypatch.delenv("TMPDIR")

    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ValueError, match="TMPDIR must be set"):
        settle()


def test_a_user_without_an_entry_gets_a_name_and_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ValueError, match="HOME must be set, since user"):
        settle()
    monkeypatch.setenv("HOME", "/")
    settle()
    assert getpass.getuser() == f"user{os.getuid()}"


def test_few_open_files_are_refused_where_many_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 64))
    with pytest.raises(ValueError, match="ulimit -n must be >= 256 with runtime=deployment, got 64"):
        require_open_files("runtime=deployment")


def test_soft_limits_are_raised_as_far_as_they_go() -> None:
    code = (
        "import resource as r\nfrom fednano.process.surroundings import settle\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 300))\nsettle()\nassert r.getrlimit(r.RLIMIT_NOFILE) == (300, 300)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only there")
def test_missing_shared_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shm must exist with runtime=simulation; .* or use runtime=virtual"):
        require_shared_memory("runtime=simulation", tmp_path / "shm")


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    code = (
        "import os\nfrom fednano.config.errors import guarded\nfrom fednano.process.surroundings import settle\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "assert guarded(lambda: settle() or 0) == 2"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stderr.startswith("fednano: the current folder must exist")
    assert ran.stderr.count("\n") == 1
