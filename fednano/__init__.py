"""Pretraining GPT-style language models with federated learning on volatile clients.

For notebooks: `load_run`, `load_runs`, `fit` and `sweep`, which are described in `fednano.notebook`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fednano.notebook import fit, load_run, load_runs, sweep

__all__ = ["fit", "load_run", "load_runs", "sweep"]


def __getattr__(name: str) -> Any:  # imported late, since commands do without
    if name in __all__:
        return getattr(import_module("fednano.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
