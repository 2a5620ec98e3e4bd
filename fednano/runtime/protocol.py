"""The interfaces of a `runtime` choice."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from fednano.runtime.parts import Parts
from fednano.runtime.session import Outcome, Session
from fednano.training.checkpoint import Snapshot


@runtime_checkable
class Runtime(Protocol):
    """A `runtime` choice that runs in this process.

    `shared` is the setting whose value is divided evenly among the ranks of torchrun; `in_process` says whether all
    clients live in this process.
    """

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError if the other choices are incompatible with this one."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        """Run the experiment until it ends, fails or is asked to stop; does not raise in any of these cases."""


class Conducted(Protocol):
    """A `runtime` choice that starts, follows and ends another process, which writes the run folder."""

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError if the other choices are incompatible with this one."""

    def conduct(
        self, folder: Path, name: str, parts: Parts, config: dict[str, Any], resume: Snapshot | None
    ) -> Outcome:
        """Run the experiment `name` under the rules of `Runtime.run`; `config` is the resolved configuration."""
