"""The surroundings of a command: what its machine, its user and its environment variables lack.

`settle` puts right what it can, for this process and for those that it starts, and refuses the rest in one line.
"""

import getpass
import importlib.util
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fednano.core.files import can_write

LOCAL = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
OPEN_FILES = 16_384  # soft limit; Ray and a deployment with many clients need thousands
LEAST_OPEN_FILES = 256  # of a run in several processes
PRIVILEGED = 1024  # ports below it belong to the administrator


def settle() -> None:
    """Prepare this process and those that it will start. Raises ValueError for what only the user can put right."""
    _require_current_folder()
    _require_temporary_folder()
    _name_user()
    spare_this_machine(os.environ)
    _raise_limits()


def spare_this_machine(environ: MutableMapping[str, str]) -> None:
    """Keep proxies for other machines: gRPC, httpx, requests and urllib connect to this machine directly.

    The user's own exceptions stay. Without a proxy nothing is set, since macOS then uses the system's settings.
    """
    names = [name for name in environ if name.lower() in (*PROXIES, "grpc_proxy") and environ[name]]
    if not names:
        return
    given = [word.strip() for name in ("no_proxy", "NO_PROXY") for word in environ.get(name, "").split(",")]
    exceptions = ",".join(dict.fromkeys([*filter(None, given), *LOCAL]))
    environ["no_proxy"] = environ["NO_PROXY"] = "*" if "*" in given else exceptions
    if own := environ.get("no_grpc_proxy"):  # gRPC then ignores the others
        environ["no_grpc_proxy"] = ",".join(dict.fromkeys([*own.split(","), *LOCAL]))


def without_foreign_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables without proxies that Flower's HTTP client refuses even if it needs none, such as SOCKS proxies."""
    return {name: value for name, value in environ.items() if name.lower() not in PROXIES or _is_usable(value)}


@contextmanager
def without_foreign_proxies_here() -> Iterator[None]:
    """The same for this process and those that it starts within the block."""
    kept = without_foreign_proxies(os.environ)
    removed = {name: os.environ[name] for name in set(os.environ) - set(kept)}
    for name in removed:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(removed)


def _is_usable(proxy: str) -> bool:
    if not proxy or "://" not in proxy:
        return True
    try:
        scheme = urlsplit(proxy).scheme
    except ValueError:
        return False
    socks = scheme in ("socks5", "socks5h") and importlib.util.find_spec("socksio") is not None
    return scheme in ("http", "https") or socks


def require_port(key: str, port: int, host: str) -> None:
    """Raise ValueError unless this process can listen on `port` of `host`; 0 stands for any free port."""
    if not port:
        return
    # As servers do: connections of an earlier run that have not quite ended do not count.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except PermissionError:
            raise ValueError(
                f"{key} must be >= {PRIVILEGED} for this user, got {port}; use 0 for a free port"
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ValueError(f"{key} must be a free port of {host}, got {port} ({reason}); use 0 for one") from None


def require_utf8(key: str, path: Path) -> None:
    """Raise ValueError unless `path` is text that other programs can be told: it may be bytes in an old encoding."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise ValueError(
            f"{key} must be UTF-8, got {shown}; set LC_ALL=C.UTF-8, or rename the folder that is not"
        ) from None


def require_open_files(key: str) -> None:
    """Raise ValueError if the choice `key`, which starts many processes, may open too few files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < LEAST_OPEN_FILES:
        raise ValueError(
            f"ulimit -n must be >= {LEAST_OPEN_FILES} with {key}, got {soft}; raise it, or use runtime=virtual"
        )


def require_shared_memory(key: str, folder: Path = Path("/dev/shm")) -> None:
    """Raise ValueError if the choice `key`, which needs it, finds no shared memory on Linux; a small one will do."""
    if sys.platform == "linux" and not folder.is_dir():
        raise ValueError(f"{folder} must exist with {key}; mount a tmpfs there, or use runtime=virtual")


def _require_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ValueError("the current folder must exist, but it was removed; change to another one with cd") from None


def _require_temporary_folder() -> None:
    given = os.environ.get("TMPDIR")
    if given and not can_write(Path(given)):
        raise ValueError(f"TMPDIR must be a folder that can be written, got {given}; create it or unset TMPDIR")
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise ValueError("TMPDIR must be set, since no folder such as /tmp can be written; name one") from None


def _name_user() -> None:
    """Name a user who has no entry in the password file, as in many containers; libraries ask for a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = os.environ["LOGNAME"] = f"user{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        raise ValueError(
            f"HOME must be set, since user {os.getuid()} is not in the password file; set it to a folder that can be "
            "written"
        ) from None


def _raise_limits() -> None:
    """Use what the hard limits allow; soft limits are often small."""
    for kind, wanted in ((resource.RLIMIT_NOFILE, OPEN_FILES), (resource.RLIMIT_NPROC, None)):
        soft, hard = resource.getrlimit(kind)
        unlimited = resource.RLIM_INFINITY
        target = hard if wanted is None else wanted if hard == unlimited else min(wanted, hard)
        if soft != unlimited and (target == unlimited or target > soft):
            try:
                resource.setrlimit(kind, (target, hard))
            except (OSError, ValueError):  # macOS has a further limit
                continue
