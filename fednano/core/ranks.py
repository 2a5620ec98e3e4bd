"""Which of the processes that torchrun started this one is. Read from the environment, without torch."""

import os


def world() -> int:
    """How many ranks there are; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0. The first rank alone writes files and shows anything."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Its number on this machine: that of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))
