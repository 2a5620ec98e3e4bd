"""The only package that uses private or undocumented parts of flwr.

What its modules say about Flower was verified with `TESTED_VERSION`. To upgrade flwr, compare each module with Flower's
sources, run the tests that name it, then raise the constant. No module is imported here, since each process needs only
a few.
"""

from types import ModuleType

TESTED_VERSION = "1.42.0"


def patch(module: ModuleType, name: str, value: object) -> None:
    """Replace `name` in `module`, a module of flwr or one that flwr uses. Raises RuntimeError if it has no `name`."""
    if not hasattr(module, name):
        raise RuntimeError(f"{module.__name__} has no {name}; install flwr {TESTED_VERSION}")
    setattr(module, name, value)
