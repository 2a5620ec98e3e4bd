"""The command that runs a node of a live federation: its SuperNode and its trainer, restarted when they die.

python -m fednano.node name=client_0 superlink=HOST:PORT root_certificates=FILE private_key=FILE
python -m fednano.node name=client_0 … --print systemd
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fednano.config.compose import compose_config, with_hydra_flags
from fednano.config.errors import guarded
from fednano.config.quoting import toml_quoted
from fednano.config.targets import allowed
from fednano.coordination.redis_link import Address
from fednano.node.settings import NodeSettings, checked, encode
from fednano.node.supervisor import Supervisor
from fednano.node.units import FORMS
from fednano.process.child import Child
from fednano.process.environment import QUIET
from fednano.process.surroundings import settle, without_foreign_proxies

TRAINER, SUPERNODE = "fednano.node.trainer", "fednano.node.supernode"
SUPERNODE_S = 10.0  # for the SuperNode to end
ORPHAN_S = 3.0  # for both to end if the supervisor was killed


def main(overrides: Sequence[str], form: str | None = None) -> int:
    """Run the node described by `overrides` until a signal comes, or print a file that starts it; the exit code."""
    settle()
    settings, data = checked(compose_config(overrides, "node"))
    if form:
        print(FORMS[form](settings, [*(f"--allow-module={module}" for module in allowed()), *overrides]), end="")
        return 0
    Address.from_environment()  # checked here, read by the trainer
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(QUIET)

    def say(line: str) -> None:
        print(f"fednano node {settings.name}: {line}", flush=True)

    say(f"superlink {settings.superlink}, run {settings.run or 'sent by the server'}, folder {settings.home}")
    return Supervisor([trainer(settings, data), supernode(settings)], say).run()


def trainer(settings: NodeSettings, data: dict[str, Any] | None) -> Child:
    """The resident trainer."""
    return Child(
        "trainer",
        [sys.executable, "-m", TRAINER, encode(settings, data)],
        log=None,
        environment=os.environ,
        grace_s=settings.drain_s,
        orphan_s=ORPHAN_S,
    )


def supernode(settings: NodeSettings) -> Child:
    """The SuperNode, which answers messages in its own process."""
    arguments = ["--superlink", settings.superlink, "--isolation", "process"]
    arguments += ["--node-config", f"name={toml_quoted(settings.name)} socket={toml_quoted(str(settings.socket))}"]
    if settings.insecure:
        arguments.append("--insecure")
    if settings.root_certificates:
        arguments += ["--root-certificates", str(Path(settings.root_certificates).expanduser())]
    if settings.private_key:
        arguments += ["--auth-supernode-private-key", str(Path(settings.private_key).expanduser())]
    return Child(
        "supernode",
        [sys.executable, "-m", SUPERNODE, settings.name, *arguments],
        log=settings.home / "supernode.log",
        # Flower's own files go there.
        environment={**without_foreign_proxies(os.environ), "FLWR_HOME": str(settings.home / "flwr")},
        grace_s=SUPERNODE_S,
        orphan_s=ORPHAN_S,
    )


def _command() -> int:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--print", choices=sorted(FORMS))
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    return with_hydra_flags("node", lambda overrides: main(overrides, known.print))


if __name__ == "__main__":
    sys.exit(guarded(_command))
