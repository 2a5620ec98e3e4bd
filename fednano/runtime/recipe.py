"""The recipe by which another process builds the parts of a run."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How another process builds the parts of a run.

    `build` is the dotted path of a function that takes `config`, the configuration as YAML.
    """

    build: str
    config: str

    def parts(self) -> Any:
        module, _, function = self.build.rpartition(".")
        return getattr(import_module(module), function)(self.config)
