"""Settings of a node, checked before anything starts."""

import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fednano.config.checks import MISSING, check_value
from fednano.config.hydra.references import require_resolvable
from fednano.config.recorded import check_recorded
from fednano.core.clock import pause
from fednano.core.files import reading
from fednano.process.temporary import SOCKET, SOCKET_BYTES

POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """The keys of conf/node.yaml, except for the data.

    Args:
        name: the client's name in the run.
        superlink: HOST:PORT of the SuperLink's Fleet API.
        run: the run's id, which names its keys in the coordination store; None: the server sends it.
        config: config.yaml of the run; None: the server sends it.
        folder: folder for socket and logs, which only this user can access; None: below the user's cache.
        root_certificates: PEM file of the authority that signed the SuperLink's certificate; None: the system's.
        private_key: PEM file of the key that identifies this node to the SuperLink; None: no key.
        insecure: whether to connect to the SuperLink without TLS.
        drain_s: seconds for the trainer to finish its current step and submit.
    """

    name: str
    superlink: str
    run: str | None
    config: str | None
    folder: str | None
    root_certificates: str | None
    private_key: str | None
    insecure: bool
    drain_s: float

    def __post_init__(self) -> None:
        for key in ("name", "run"):
            value = getattr(self, key)
            if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
                raise ValueError(f"{key} must be a plain name, got {value}; use letters, digits, dots, dashes and _")
        if (self.run is None) != (self.config is None):
            raise ValueError(
                f"run and config must be set together, got run={self.run} and config={self.config}; give both, or "
                "neither if the server sends them"
            )
        if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^\s:/]+):[0-9]{1,5}", self.superlink):
            raise ValueError(f"superlink must be HOST:PORT, got {self.superlink}; give both")
        if not 0 < int(self.superlink.rpartition(":")[2]) < 65536:
            raise ValueError(f"the port of superlink must be 1 to 65535, got {self.superlink}; correct it")
        if len(os.fsencode(self.socket)) > SOCKET_BYTES:
            raise ValueError(
                f"folder must leave room for a socket's path of {SOCKET_BYTES} bytes, got {self.home}; set folder= to "
                "a shorter one"
            )
        for key in ("config", "root_certificates", "private_key"):
            path = getattr(self, key)
            if path is not None and not Path(path).expanduser().is_file():
                raise ValueError(f"{key} must be an existing file, got {path}; name one")
        for key in ("root_certificates", "private_key"):
            if self.insecure and getattr(self, key):
                raise ValueError(
                    f"{key} must be null with insecure=true, got {getattr(self, key)}; leave it out or use "
                    "insecure=false"
                )
        if not self.drain_s > 0:
            raise ValueError(f"drain_s must be > 0, got {self.drain_s}; use more seconds than a step takes")

    @property
    def home(self) -> Path:
        """The node's own folder."""
        return Path(self.folder or f"~/.cache/fednano/nodes/{self.name}").expanduser().absolute()

    @property
    def socket(self) -> Path:
        """The socket between relay and trainer."""
        return self.home / SOCKET


def checked(cfg: DictConfig) -> tuple[NodeSettings, dict[str, Any] | None]:
    """The settings, and the data group if the node has its own. Raises ValueError."""
    require_resolvable(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    names = [field.name for field in fields(NodeSettings)]
    for key in plain:
        if key not in (*names, "data", "partition"):
            raise ValueError(f"{key!s}={plain[key]} sets a key that does not exist; remove it")
    for field in fields(NodeSettings):
        value = plain[field.name]
        if value in (MISSING, None) and field.type is str:
            raise ValueError(f"{field.name} is not set; add {field.name}=VALUE")
        check_value(field.name, value, field.type)
    return NodeSettings(**{name: plain[name] for name in names}), plain.get("data")


def encode(settings: NodeSettings, data: dict[str, Any] | None) -> str:
    """Both as one command-line argument. It contains no secrets."""
    return json.dumps({"settings": asdict(settings), "data": data})


def decode(argument: str) -> tuple[NodeSettings, dict[str, Any] | None]:
    """The inverse of `encode`."""
    told = json.loads(argument)
    return NodeSettings(**told["settings"]), told["data"]


def run_config(path: Path, data: dict[str, Any] | None) -> DictConfig:
    """The run's configuration, with the node's own data group if given. Raises ValueError for a damaged file."""
    try:
        with reading(path.expanduser(), "name the config.yaml of a run"):
            cfg = OmegaConf.load(path.expanduser())
    except ValueError as error:
        raise ValueError(f"config={path} cannot be read: {error}") from error
    return _with_data(cfg, data, f"config={path}")


def told_config(path: Path, data: dict[str, Any] | None) -> tuple[str, DictConfig]:
    """Wait until the server has sent the run's id and configuration; returns both.

    Raises ValueError if they name code outside fednano and the modules that this node's owner allows: a server may
    assign work, but not run code of its own.
    """
    while not path.exists():
        pause(POLL_S)
    told = json.loads(path.read_text(encoding="utf-8"))
    plain = json.loads(told["config"])
    return str(told["run"]), _with_data(OmegaConf.create(plain), data, "the server's configuration")


def _with_data(cfg: Any, data: dict[str, Any] | None, source: str) -> DictConfig:
    if not isinstance(cfg, DictConfig) or not isinstance(cfg.get("data"), DictConfig):
        raise ValueError(f"{source} is not the configuration of a run; name the config.yaml of one")
    check_recorded(cfg, source)
    if data is not None:
        cfg.data = {**data, "partition": cfg.data.partition}  # only the run decides how rows are dealt to clients
    return cfg
