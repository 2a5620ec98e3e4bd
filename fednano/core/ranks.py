"""Ranks of torchrun: this process's number and their count, read from the environment without torch."""

import os


def world() -> int:
    """The number of ranks; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's rank, from 0. Only rank 0 writes files and shows anything."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's rank on its machine, which is also the number of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))
