"""Ranks of torchrun: this process's number and their count, read from the environment without torch."""

import os

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # torchrun sets all three


def world() -> int:
    """The number of ranks; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """This process's rank, from 0. Only rank 0 writes files and shows anything."""
    return _number("RANK", 0)


def local_rank() -> int:
    """This process's rank on its machine, which is also the number of its device."""
    return _number("LOCAL_RANK", 0)


def check_ranks() -> None:
    """Raise ValueError unless the environment has either none of torchrun's variables or all of them, in agreement.

    A process that took itself for one of several ranks would train without writing anything.
    """
    present = [name for name in _VARIABLES if name in os.environ]
    if not present:
        return
    remedy = f"unset {', '.join(present)}, or start the ranks by torchrun"
    for name in _VARIABLES:
        if name not in present:
            raise ValueError(f"{name} must be set, since {present[0]}={os.environ[present[0]]} is; {remedy}")
        least = int(name == "WORLD_SIZE")
        value = os.environ[name]
        if not (value.isascii() and value.isdigit() and int(value) >= least):
            raise ValueError(f"{name} must be a whole number >= {least}, got {value or 'nothing'}; {remedy}")
    for name in ("RANK", "LOCAL_RANK"):
        if _number(name, 0) >= world():
            raise ValueError(f"{name} must be < WORLD_SIZE={world()}, got {os.environ[name]}; {remedy}")
    if local_rank() > rank():
        raise ValueError(f"LOCAL_RANK must be <= RANK={rank()}, got {local_rank()}; {remedy}")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if world() > 1 and not os.environ.get(name):
            raise ValueError(f"{name} must be set with WORLD_SIZE={world()}; {remedy}")


def _number(name: str, without: int) -> int:
    return int(os.environ.get(name, without))
