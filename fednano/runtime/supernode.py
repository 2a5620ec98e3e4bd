"""Flower's SuperNode in a process that ends with its supervisor: python -m fednano.runtime.supernode ARGUMENTS."""

from flwr.supernode.cli.flower_supernode import flower_supernode

from fednano.runtime import lifeline

if __name__ == "__main__":
    lifeline.watch()
    flower_supernode()
