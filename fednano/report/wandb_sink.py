"""The Weights & Biases logger. The only module that imports wandb, and only when a run asks for it."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fednano.config.errors import one_line
from fednano.core.events import Event, RoundMerged, RunStarted
from fednano.core.inner_step import InnerStep
from fednano.report.sinks import Energy, Sink, flat, metrics

MODES = ("auto", "offline", "online")
MAX_ACCOUNTS = 10_000  # energy accounts (one client, one round) logged in a run; above this, rounds are skipped
# Seconds, unless W&B's own variables say otherwise: for a run to begin, and to be uploaded at its end.
LIMITS = {"init_timeout": ("WANDB_INIT_TIMEOUT", 30.0), "finish_timeout": ("WANDB_FINISH_TIMEOUT", 60.0)}
CHARTED = ("kwh", "co2_g", "share_in_windows")


class WandbSink:
    """Logs every merged round and every evaluation, charted against tokens, and the summary at the end.

    Each round also logs energy and carbon so far, in total and by client, under their names in the summary, which has
    the final figures. With many clients and rounds, only some of the rounds log them.

    Under `wandb agent` the environment decides the run id, the sweep and the project.

    A server that is lost later costs the run a warning and the upload, since all figures are in the run folder too.

    Raises ValueError if wandb is not installed, or if an online run has no valid credentials or reaches no server.
    """

    def __init__(
        self,
        *,
        project: str,
        mode: str,
        name: str | None,
        group: str | None,
        tags: Sequence[str],
        config: dict[str, Any],
        folder: Path,
        energy: Energy,
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            if error.name != "wandb":
                raise
            raise ValueError(
                "logger=wandb needs wandb, which is not installed; install it with: pip install wandb, or use "
                "logger=local"
            ) from None

        self._lost = False
        self._energy = energy
        self._every, self._merged = 1, 0

        try:
            self._run = wandb.init(
                project=project,
                mode=cast(Literal["offline", "online"], mode),
                name=name or f"{folder.parent.name}/{folder.name}",
                group=group,
                tags=list(tags),
                config=config,
                dir=folder,
                # The live display rewrites its own lines; a captured copy of them would be noise.
                settings=wandb.Settings(console="off", finish_timeout_raises=True, **_limits()),
            )
        except wandb.errors.Error as error:
            wandb.teardown()  # its process writes into the folder
            raise ValueError(f"logger.mode={mode}: {error}; run `wandb login`, or set logger.mode=offline") from error
        # Rounds and evaluations are rows of their own, each drawn at its own tokens, round, merges or virtual time;
        # wandb's own step only counts the rows.
        for axis in ("tokens", "round", "merges", "virtual_s"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="tokens")

    def event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            per_round = max(1, len(event.clients) * event.local_steps * event.tokens_per_step)
            rounds = event.rounds or event.tokens_planned / per_round
            self._every = max(1, math.ceil(rounds * len(event.clients) / MAX_ACCOUNTS))
        row = metrics(event)
        if row is None:
            return
        row["virtual_s"] = row.pop("t")
        if isinstance(event, RoundMerged):
            self._merged += 1
            if self._merged % self._every == 0:
                row |= _charted(self._energy())
        self._log(row)

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        if energy := summary.get("energy"):
            axes = {"tokens": summary["tokens"], "round": summary["rounds"], "virtual_s": 3600 * energy["hours"]}
            self._log(axes | _charted(energy))
        totals = {key: value for key, value in flat(summary, "/").items() if value is not None}
        self._tell(lambda: self._run.summary.update(totals))
        self._tell(lambda: self._run.finish(exit_code=1 if summary.get("status") == "failed" else 0))

    def _log(self, row: dict[str, Any]) -> None:
        self._tell(lambda: self._run.log({key: value for key, value in row.items() if value is not None}))

    def _tell(self, call: Callable[[], object]) -> None:
        """Call wandb unless it has failed before; a first failure is a warning."""
        if self._lost:
            return
        try:
            call()
        except Exception as error:  # wandb has no class for all that happens when its own process or the server is gone
            self._lost = True
            print(
                f"fednano: W&B was lost and gets no more figures ({one_line(error)}); they are in the run folder",
                file=sys.stderr,
            )


def _limits() -> dict[str, Any]:
    return {key: seconds for key, (variable, seconds) in LIMITS.items() if variable not in os.environ}


def _charted(energy: dict[str, Any]) -> dict[str, float | None]:
    """The figures of an energy account that are charted over the run."""

    def kept(figures: dict[str, Any]) -> dict[str, Any]:
        return {name: figures[name] for name in CHARTED}

    clients = {client: kept(figures) for client, figures in energy["clients"].items()}
    return flat({"energy": {"total": kept(energy["total"]), "clients": clients}}, "/")


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """`logger=wandb`: the settings of a `WandbSink`.

    `mode` "auto" is online for a run that a sweep agent started, whose server needs the figures, and offline otherwise.
    """

    project: str
    mode: str
    name: str | None
    group: str | None
    tags: Sequence[str]

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"logger.mode must be one of {', '.join(MODES)}, got {self.mode}; choose one")
        if not self.project:
            raise ValueError("logger.project must not be empty; name the W&B project")
        if isinstance(self.tags, str):
            raise ValueError(f"logger.tags must be a list, got {self.tags}; write logger.tags=[{self.tags}]")

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return [
            WandbSink(
                project=self.project,
                mode=self._mode(),
                name=self.name,
                group=self.group,
                tags=self.tags,
                config=config,
                folder=folder,
                energy=energy,
            )
        ]

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        return "online" if "WANDB_SWEEP_ID" in os.environ else "offline"
