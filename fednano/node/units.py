"""Files that start a node on its machine: a systemd unit or a container file."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from fednano.coordination.redis_link import URL_VARIABLE
from fednano.node.settings import NodeSettings

STOP_S = 30.0  # in addition to the drain, for the SuperNode to end and for answers to be sent


def systemd(settings: NodeSettings, overrides: Sequence[str]) -> str:
    """A systemd unit. Raises ValueError for text that a unit cannot hold."""
    _require_one_line(settings, overrides)
    command = " ".join(_quoted(word) for word in (sys.executable, "-m", "fednano.node", *overrides))
    return f"""\
# ~/.config/systemd/user/fednano-{settings.name}.service, or /etc/systemd/system/ with User= below [Service].
# Put the secret into the file of EnvironmentFile, readable by its owner only: {URL_VARIABLE}=…
[Unit]
Description=fednano node {settings.name}
Wants=network-online.target
After=network-online.target

[Service]
EnvironmentFile={_escaped(str(settings.home / "environment"))}
WorkingDirectory={_escaped(str(Path.cwd()))}
ExecStart={command}
# Only the supervisor gets the signal; it lets the trainer drain.
KillMode=mixed
TimeoutStopSec={settings.drain_s + STOP_S:.0f}
SuccessExitStatus=130 143
Restart=on-failure
RestartSec=30
NoNewPrivileges=true
UMask=0077

[Install]
WantedBy=default.target
"""


def container(settings: NodeSettings, overrides: Sequence[str]) -> str:
    """A container file. Raises ValueError for text that it cannot hold."""
    _require_one_line(settings, overrides)
    files = [path for path in (settings.config, settings.root_certificates, settings.private_key) if path]
    mounts = " ".join(shlex.quote(f"--volume={Path(path).absolute()}:{Path(path).absolute()}:ro") for path in files)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    entry = json.dumps(["python", "-m", "fednano.node", *overrides])
    return f"""\
# Wheels: uv build --all-packages --wheel    Image: podman build -t fednano-{settings.name} -f THIS .
# podman run --env={URL_VARIABLE} --stop-timeout={settings.drain_s + STOP_S:.0f} {mounts} fednano-{settings.name}
FROM python:{python}-slim
COPY dist/fednano-{version("fednano")}-*.whl dist/fednano_rustbpe-*.whl /wheels/
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels && useradd --create-home fednano
USER fednano
WORKDIR {_literal(str(Path.cwd()))}
STOPSIGNAL SIGTERM
ENTRYPOINT {entry}
"""


FORMS: dict[str, Callable[[NodeSettings, Sequence[str]], str]] = {"systemd": systemd, "container": container}


def _require_one_line(settings: NodeSettings, overrides: Sequence[str]) -> None:
    for text in (*overrides, str(settings.home), str(Path.cwd())):
        if len(text.splitlines()) > 1:
            raise ValueError(f"--print needs paths and values without line breaks, got {text!r}; rename the folder")


def _literal(text: str) -> str:
    """`text` as a container file's instruction, in which $ begins a variable."""
    return text.replace("\\", "\\\\").replace("$", "\\$")


def _escaped(text: str) -> str:
    """`text` escaped for a unit file, in which % begins a specifier."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """`word` quoted for a unit's command line, in which $ begins a variable."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'
