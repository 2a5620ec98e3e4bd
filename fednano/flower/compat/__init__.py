"""The one place that touches private or undocumented parts of flwr.

What its modules say of Flower was found with `TESTED_VERSION`. When raising flwr, read each of them beside Flower's
sources, run the tests that name it, then raise the constant. No module is imported here: each process needs a few.
"""

from types import ModuleType

TESTED_VERSION = "1.42.0"


def patch(module: ModuleType, name: str, value: object) -> None:
    """Replace what `module`, of flwr or used by it, calls `name`. Raises RuntimeError where it calls nothing so."""
    if not hasattr(module, name):
        raise RuntimeError(f"{module.__name__} has no {name}; install flwr {TESTED_VERSION}")
    setattr(module, name, value)
