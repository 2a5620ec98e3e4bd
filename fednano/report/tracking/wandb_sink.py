"""The Weights & Biases logger. The only module that imports wandb, and only when a run asks for it."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fednano.config.errors import one_line, warn
from fednano.core.events import Event, RunStarted, UpdateFolded
from fednano.core.inner_step import InnerStep
from fednano.report.metrics import ROUND, MetricsRow
from fednano.report.sinks import Energy, Sink, flat
from fednano.report.tracking.happenings import COLUMNS, HEARD, Happenings
from fednano.report.tracking.needed import needed
from fednano.report.tracking.wandb_identity import IdentityFile, WandbIdentity, known, rows_kept

MODES = ("auto", "offline", "online")
SYNONYMS = {"run": "online", "dryrun": "offline"}  # of modes in WANDB_MODE
MAX_ACCOUNTS = 10_000  # accounts of a client in a round that are logged in a run; above this, rounds are skipped
# Seconds, unless W&B's own variables say otherwise: for a run to begin, and to be uploaded at its end.
LIMITS = {"init_timeout": ("WANDB_INIT_TIMEOUT", 30.0), "finish_timeout": ("WANDB_FINISH_TIMEOUT", 60.0)}
CHARTED = ("kwh", "co2_g", "share_in_windows")


class WandbSink:
    """Logs every row of `metrics.jsonl`, charted against tokens, and at the end the summary and a table of happenings.

    Each round also logs energy and carbon so far, in total and by client, under their names in the summary, which has
    the final figures, and the loss and the tokens of each client that took part since the last such round. With many
    clients and rounds, only some of the rounds log them.

    A run folder stays with its W&B run: what that run has been given before a resume is not given again. Under
    `wandb agent` the environment decides the run id, the sweep and the project.

    A server that is lost later costs the upload, since all figures are in the run folder too.

    Raises ValueError if wandb is not installed, or if an online run has no valid credentials or reaches no server.
    """

    hears = (RunStarted, UpdateFolded, *HEARD)

    def __init__(self, *, settings: "Wandb", mode: str, config: dict[str, Any], folder: Path, energy: Energy) -> None:
        with needed("wandb", "wandb"):
            import wandb

        self._settings, self._folder, self._energy = settings, folder, energy
        self._every, self._merged, self._rows = 1, 0, 0
        self._happenings = Happenings()
        self._tokens: dict[str, int] = {}  # accumulated, by client
        self._updates: dict[str, UpdateFolded] = {}  # the last of each client, since clients were last logged
        before = known(folder, settings.project)
        kept = rows_kept(folder, before) if before else 0
        try:
            self._run = wandb.init(
                project=settings.project,
                mode=cast(Literal["offline", "online"], mode),
                name=settings.name or f"{folder.parent.name}/{folder.name}",
                group=settings.group,
                tags=list(settings.tags),
                config=config,
                dir=folder,
                # The live display rewrites its own lines; a captured copy of them would be noise.
                settings=wandb.Settings(console="off", finish_timeout_raises=True, **_limits()),
                id=before.id if before else None,
                resume="allow" if before else None,
            )
        except wandb.errors.Error as error:
            wandb.teardown()  # its process writes into the folder
            raise ValueError(
                f"logger.wandb.mode={mode}: {error}; run `wandb login`, or set logger.wandb.mode=offline"
            ) from error
        self._given = self._run.starting_step if mode == "online" else kept
        self._identity = IdentityFile(folder)
        self._note()
        # Rounds and evaluations are rows of their own, each drawn at its own tokens; wandb's own step counts the rows.
        for axis in ("tokens", "round", "merges", "virtual_s"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="tokens")

    def event(self, event: Event) -> None:
        match event:
            case UpdateFolded():
                self._tokens[event.client] = self._tokens.get(event.client, 0) + event.tokens
                self._updates[event.client] = event
            case RunStarted():
                per_round = max(1, len(event.clients) * event.local_steps * event.tokens_per_step)
                rounds = event.rounds or event.tokens_planned / per_round
                self._every = max(1, math.ceil(rounds * len(event.clients) / MAX_ACCOUNTS))
            case _:
                self._happenings.add(event)

    def step(self, step: InnerStep) -> None:
        pass

    def log_metrics(self, row: MetricsRow) -> None:
        merged = row.pop("type") == ROUND
        self._merged += merged
        row["virtual_s"] = row.pop("t")
        if merged and self._merged % self._every == 0:
            updates, self._updates = self._updates, {}
            if self._rows >= self._given:  # or nobody would look at the account
                row |= _charted(self._energy()) | self._by_client(updates)
        self._log(row)

    def close(self, summary: dict[str, Any]) -> None:
        if summary.get("status") == "completed" and (energy := summary.get("energy")):
            axes = {"tokens": summary["tokens"], "round": summary["rounds"], "virtual_s": 3600 * energy["hours"]}
            self._log(axes | _charted(energy))
        told = {key: value for key, value in flat(summary, "/").items() if value is not None}
        if "wall_s" in told:  # which in rows is the time of a round
            told["wall_run_s"] = told.pop("wall_s")
        self._run.summary.update(told)
        self._attach("the table of events", self._log_happenings)
        if self._settings.report:
            self._attach("report.html", lambda: self._log_files("report", "report", self._folder / "report.html"))
        if self._settings.checkpoint and (saved := sorted(self._folder.glob("checkpoints/round_*"))):
            self._attach(saved[-1].name, lambda: self._log_files("checkpoint", "model", saved[-1]))
        self._identity.close()
        self._run.finish(exit_code=1 if summary.get("status") in ("failed", "refused") else 0)

    def _by_client(self, updates: dict[str, UpdateFolded]) -> MetricsRow:
        """The loss of the last update of each client that took part, and the tokens of all its updates."""
        figures = {
            client: {"train_loss": update.train_loss, "tokens": self._tokens[client]}
            for client, update in updates.items()
        }
        return {key: value for key, value in flat({"clients": figures}, "/").items() if math.isfinite(value)}

    def _log(self, row: MetricsRow) -> None:
        """Log the next row, unless the W&B run has it already."""
        at, self._rows = self._rows, self._rows + 1
        if at < self._given:
            return
        self._run.log({key: value for key, value in row.items() if value is not None}, step=at, commit=True)
        self._note()

    def _note(self) -> None:
        rows = max(self._rows, self._given)
        self._identity.write(WandbIdentity(id=self._run.id, project=self._settings.project, rows=rows))

    def _attach(self, what: str, attach: Callable[[], object]) -> None:
        """Add something that the run's figures are complete without; a failure is a warning."""
        try:
            attach()
        except Exception as error:  # wandb has no class for all that happens when its own process or folder is gone
            warn(f"W&B does not get {what} ({one_line(error)}); the run folder has it")

    def _log_happenings(self) -> None:
        import wandb

        if self._happenings.rows:
            table = wandb.Table(columns=list(COLUMNS), data=[list(row) for row in self._happenings.rows])
            self._run.summary.update({"events": table})

    def _log_files(self, name: str, kind: str, path: Path) -> None:
        """Log a file or a folder as an artifact of the run, uploaded from where it lies."""
        import wandb

        if not path.exists():
            return
        artifact = wandb.Artifact(f"{self._run.id}-{name}", kind)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                inside = str(file.relative_to(path)) if path.is_dir() else file.name
                artifact.add_file(str(file), inside, skip_cache=True, policy="immutable")
        self._run.log_artifact(artifact)


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

    Args:
        project: W&B project that the run belongs to.
        mode: auto, online or offline. auto is what WANDB_MODE says, where disabled logs nothing; without it, online for
            a run that a sweep agent started, whose server needs the figures, and offline otherwise.
        name: name of the run on W&B; None: experiment/date_time, like the run folder.
        group: W&B group that shows the run beside others; None: no group.
        tags: W&B tags of the run.
        report: whether report.html becomes an artifact.
        checkpoint: whether the last checkpoint does; it is several times as large as the model.
    """

    project: str
    mode: str
    name: str | None
    group: str | None
    tags: Sequence[str]
    report: bool = True
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"logger.wandb.mode must be one of {', '.join(MODES)}, got {self.mode}; choose one")
        if not self.project:
            raise ValueError("logger.wandb.project must not be empty; name the W&B project")
        if isinstance(self.tags, str):
            raise ValueError(
                f"logger.wandb.tags must be a list, got {self.tags}; write logger.wandb.tags=[{self.tags}]"
            )

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        mode = self._mode()
        if mode == "disabled":
            return []
        return [WandbSink(settings=self, mode=mode, config=config, folder=folder, energy=energy)]

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        asked = os.environ.get("WANDB_MODE", "")
        if (mode := SYNONYMS.get(asked, asked)) in (*MODES[1:], "disabled"):
            return mode
        return "online" if "WANDB_SWEEP_ID" in os.environ else "offline"
