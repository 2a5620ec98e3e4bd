"""Which W&B run a run folder belongs to, kept in the folder so that a resumed run continues it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from fednano.core.failures import naming

PATH = Path("wandb", "fednano.json")
DECIDED_OUTSIDE = ("WANDB_RUN_ID", "WANDB_SWEEP_ID")  # variables with which somebody else has chosen the run


@dataclass(frozen=True, kw_only=True)
class WandbIdentity:
    """The id of a W&B run, its project, and how many rows it has been given."""

    id: str
    project: str
    rows: int


def known(folder: Path, project: str) -> WandbIdentity | None:
    """The W&B run of this folder; None if there is none in this project, or if the environment decides."""
    if any(os.environ.get(variable) for variable in DECIDED_OUTSIDE):
        return None
    try:
        found = WandbIdentity(**json.loads((folder / PATH).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or a damaged one: W&B's part of the run begins anew
        return None
    return found if found.project == project else None


class IdentityFile:
    """The file of the identity, written anew after each row."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PATH
        with naming(self._path):
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")

    def write(self, identity: WandbIdentity) -> None:
        with naming(self._path):
            self._file.seek(0)
            self._file.write(json.dumps(asdict(identity)))  # never shorter than before
            self._file.flush()

    def close(self) -> None:
        self._file.close()
