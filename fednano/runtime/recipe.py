"""The recipe by which another process builds the parts of a run."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

BUILD = "fednano.experiment.experiment.rebuilt"  # by name, since imports point downwards


@dataclass(frozen=True)
class Recipe:
    """How another process builds the parts of a run.

    `build` is the dotted path of a function that takes `config`, the configuration as YAML. A recipe may have come in a
    message, so that it can name no other function than `BUILD`.
    """

    build: str
    config: str

    def parts(self) -> Any:
        """The parts of the run. Raises ValueError for another function or a bad configuration."""
        if self.build != BUILD:
            raise ValueError(f"a recipe must name {BUILD}, got {self.build}; install one version of fednano")
        module, _, function = self.build.rpartition(".")
        return getattr(import_module(module), function)(self.config)
