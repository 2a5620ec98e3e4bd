"""The interfaces of a `runtime` choice."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from fednano.runtime.parts import Parts
from fednano.runtime.session import Outcome, Session
from fednano.training.checkpoint import Snapshot


@runtime_checkable
class Runtime(Protocol):
    """A `runtime` choice.

    `shared` is the setting whose value the ranks of torchrun share out evenly; `in_process` says whether all clients
    live in this process.
    """

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError where the other choices do not suit this one."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        """Run the experiment to its end, or to where it is asked to stop or fails; never raises for either."""


class Conducted(Protocol):
    """A `runtime` choice whose run folder is written by another process, which it starts, follows and ends."""

    shared: ClassVar[str]
    in_process: ClassVar[bool]
    name: str

    def check(self, parts: Parts) -> None:
        """Raise ValueError where the other choices do not suit this one."""

    def conduct(
        self, folder: Path, name: str, parts: Parts, config: dict[str, Any], resume: Snapshot | None
    ) -> Outcome:
        """Run the experiment called `name` as `Runtime.run` does; `config` is the resolved configuration."""
